"""Sets of images: folders, archives, arrays, and the datasets of training.

DIRECTORY    FILE.zip    FILE.tar[.gz]    FILE.npz    FILE.npy
idx:DIRECTORY/SPLIT      records:DIRECTORY/SPLIT      tfds:NAME/SPLIT
"""

import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.atomic_io import wrap_read_errors
from inception_jax.config import ConfigError
from inception_jax.data.listing import is_left_behind, list_files
from inception_jax.data.registry import open_source
from inception_jax.data.source import DataError

IMAGE_SUFFIXES = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of images, in upper or lower case: pytorch-fid's list."""
ARCHIVE_ERRORS = (
    OSError, ValueError, RuntimeError, EOFError, SyntaxError, NotImplementedError,
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""Errors of the readers of damaged or encrypted archives."""
MAX_ITEM = 2**28
"""Bytes of an unpacked file: a bitmap of the most pixels that are decoded."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DATASETS = ("idx", "records", "tfds")
IMAGE_ARRAYS = ("arr_0", "images", "samples", "x")
"""Names of the images in an `.npz`, the first that there is: ADM's is `arr_0`."""
LABEL_ARRAYS = ("arr_1", "labels", "label", "y")
MAX_HEADER = 2**16

Item = bytes | np.ndarray
"""An encoded image, or pixels uint8 or floats [H, W], [H, W, 1] or [H, W, 3]."""


@dataclass(frozen=True)
class ImageSet:
    """Images in an order that never changes.

    Attributes:
      name: The argument that it was opened by.
      names: Names of the images, for messages and pictures.
      load: (index) -> the image; fastest with ascending indices, and from one thread.
      labels: [N] int, where they are known.
      class_names: Names of the classes; none where they are not known.
      notes: What a user has to know of how it was read.
      is_float: Whether its images are floats, whose range has to be named.
    """

    name: str
    names: Sequence[str]
    load: Callable[[int], Item]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_float: bool = False
    nested: int = field(default=0)
    """Images in folders below the folder, which some programs do not read."""

    def __len__(self) -> int:
        return len(self.names)

    def check_range(self, value_range: object) -> None:
        """Raises an error for floats whose range is not named.

        Raises:
          DataError: `value_range` is None.
        """
        if self.is_float and value_range is None:
            raise DataError(
                f"{self.name} holds floats: name their range with --value-range 0..1, -1..1 or "
                "0..255"
            )


def open_image_set(text: str, *, with_labels: bool = False) -> ImageSet:
    """Returns the images of an argument; see the head of this module.

    Args:
      text: The argument.
      with_labels: Whether to read all records of a dataset that has labels in them alone.

    Raises:
      ConfigError: There is no such file or folder, or it is of no known kind.
      DataError: It holds no images, or cannot be read.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in DATASETS:
        return _open_dataset(text, kind, rest, with_labels)
    path = Path(text).expanduser()
    if path.is_dir():
        found = _open_folder(text, path)
    elif not path.is_file():
        raise ConfigError(
            f"{text} is not there: give a folder, an archive or array of images, a file of "
            "statistics, or idx:DIRECTORY/SPLIT, records:DIRECTORY/SPLIT or tfds:NAME/SPLIT"
        )
    elif path.name.lower().endswith(".zip"):
        found = _open_zip(text, path)
    elif path.name.lower().endswith(ARCHIVES[1:]):
        found = _open_tar(text, path)
    elif path.suffix.lower() in (".npz", ".npy"):
        found = _open_arrays(text, path)
    else:
        raise ConfigError(
            f"{text} is a file of unknown kind: wanted are {', '.join(ARCHIVES)}, .npz or .npy for "
            "images, or .safetensors, .npz or .pt for statistics"
        )
    if not len(found):
        raise DataError(
            f"{text} holds no images: wanted are files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    return found


def _open_folder(text: str, path: Path) -> ImageSet:
    listing = list_files(path)
    files = [name for name, _ in listing.files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    others = len(listing.files) - len(files) + sum(map(len, listing.left_out.values()))
    notes = []
    if others:
        notes.append(f"{others:,} files left out, which do not end as images do")
    if listing.broken:
        raise DataError(
            f"{text}: {len(listing.broken):,} links or files cannot be read, {listing.broken[0]} "
            "among them: remove them, or make them readable"
        )
    nested = sum("/" in name for name in files)

    def load(index: int) -> bytes:
        try:
            return (path / files[index]).read_bytes()
        except OSError as error:
            raise DataError(f"it cannot be read ({error.strerror or error})") from error

    labels, names = _label_by_folder(files)
    return ImageSet(text, files, load, labels, names, tuple(notes), nested=nested)


def _label_by_folder(files: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Returns labels by the first folder of each name, where all are in one."""
    if not files or not all("/" in name for name in files):
        return None, ()
    classes = sorted({name.split("/")[0] for name in files})
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name.split("/")[0]] for name in files]), tuple(classes)


def _is_image(name: str) -> bool:
    parts = name.removeprefix("./").split("/")
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not any(map(is_left_behind, parts))


def _check_size(size: int) -> None:
    """Raises an error for a member that unpacks to more than any image has."""
    if size > MAX_ITEM:
        raise ValueError(f"it unpacks to {size:,} bytes, more than {MAX_ITEM:,}")


def _open_zip(text: str, path: Path) -> ImageSet:
    with wrap_read_errors(path, DataError, "make the archive again"):
        try:
            archive = zipfile.ZipFile(path)
            # Sorted: clean-fid takes them from a set, in an order that changes from run to run.
            files = sorted(filter(_is_image, archive.namelist()))
            labels, names = _label_by_folder(files)
            if "dataset.json" in archive.namelist():  # StyleGAN's, whose folders are no classes
                stored = json.loads(archive.read("dataset.json")).get("labels")
                by_name = dict(stored or ())
                is_whole = all(type(by_name.get(name)) is int for name in files)
                labels = np.array([by_name[name] for name in files]) if is_whole else None
                names = ()
        except ARCHIVE_ERRORS as error:
            raise ValueError(error) from error

    def load(index: int) -> bytes:
        try:
            _check_size(archive.getinfo(files[index]).file_size)
            return archive.read(files[index])
        except ARCHIVE_ERRORS as error:
            raise DataError(f"it cannot be unpacked ({error})") from error

    return ImageSet(text, files, load, labels, names)


def _open_tar(text: str, path: Path) -> ImageSet:
    with wrap_read_errors(path, DataError, "make the archive again"):
        try:
            archive = tarfile.open(path)  # noqa: SIM115
            members = [entry for entry in archive if entry.isfile() and _is_image(entry.name)]
        except ARCHIVE_ERRORS as error:
            raise ValueError(error) from error
    notes: tuple[str, ...] = ()
    if path.name.lower().endswith(".tar"):
        members.sort(key=lambda entry: entry.name)
    else:  # to seek backwards unpacks it from its beginning
        notes = ("images are in the order of the compressed archive",)

    def load(index: int) -> bytes:
        try:
            _check_size(members[index].size)
            opened = archive.extractfile(members[index])
            assert opened is not None
            return opened.read()
        except ARCHIVE_ERRORS as error:
            raise DataError(f"it cannot be unpacked ({error})") from error

    files = [entry.name.removeprefix("./") for entry in members]
    return ImageSet(text, files, load, *_label_by_folder(files), notes)


@dataclass
class _StoredArray:
    """An array of a NumPy file that is read piece by piece, however large it is."""

    open: Callable[[], Any]
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    _stream: Any = None

    @classmethod
    def from_stream(cls, open_stream: Callable[[], Any]) -> "_StoredArray":
        """Reads the header of an array.

        Raises:
          ValueError: It is no array of numbers in row-major order.
        """
        with open_stream() as stream:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, is_column_major, dtype = read(stream, MAX_HEADER)
            start = stream.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not unpickled here")
        if is_column_major and len(shape) > 1:
            raise ValueError("it is in column-major order: save numpy.ascontiguousarray of it")
        return cls(open_stream, tuple(shape), dtype, start)

    @property
    def nbytes(self) -> int:
        """Returns the bytes that the header declares."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def read(self, index: int) -> np.ndarray:
        """Returns one item of the first axis."""
        size = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        if self._stream is None:
            self._stream = self.open()
        self._stream.seek(self.start + index * size)
        data = self._stream.read(size)
        if len(data) != size:
            raise ValueError(f"it ends within image {index}")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def read_all(self) -> np.ndarray:
        """Returns the whole array."""
        with self.open() as stream:
            stream.seek(self.start)
            return np.frombuffer(stream.read(), self.dtype).reshape(self.shape)


def open_npz(path: Path) -> dict[str, _StoredArray]:
    """Returns the arrays of an `.npz` by name, of which only headers are read.

    Raises:
      DataError: It cannot be read, or holds Python objects.
    """
    with wrap_read_errors(path, DataError, "save it again with numpy.savez"):
        try:
            archive = zipfile.ZipFile(path)
            return {
                name.removesuffix(".npy"): _StoredArray.from_stream(partial(archive.open, name))
                for name in archive.namelist()
                if name.endswith(".npy") and archive.getinfo(name).file_size
            }
        except ARCHIVE_ERRORS as error:
            raise ValueError(error) from error


def _open_arrays(text: str, path: Path) -> ImageSet:
    if path.suffix.lower() == ".npy":
        with wrap_read_errors(path, DataError, "save it again with numpy.save"):
            stored = _StoredArray.from_stream(lambda: path.open("rb"))
            arrays = {"arr_0": stored}
            if stored.nbytes > path.stat().st_size:
                raise ValueError(f"its header declares {stored.nbytes:,} bytes, more than it has")
    else:
        arrays = open_npz(path)
    key = next((name for name in IMAGE_ARRAYS if name in arrays), None)
    if key is None and len(arrays) == 1:
        (key,) = arrays
    if key is None:
        raise DataError(
            f"{text} holds {', '.join(map(repr, arrays)) or 'no arrays'}: wanted are images "
            f"called {' or '.join(IMAGE_ARRAYS)}, or statistics called mu and sigma"
        )
    images = arrays[key]
    is_float = np.issubdtype(images.dtype, np.floating)
    is_one_image = len(images.shape) == 3 and images.shape[2] in (1, 3)
    is_images = (
        not is_one_image
        and images.nbytes > 0
        and (images.dtype == np.uint8 or is_float)
        and (len(images.shape) == 3 or (len(images.shape) == 4 and images.shape[3] in (1, 3)))
    )
    if not is_images:
        raise DataError(
            f"{text}: {key} is {images.dtype} {list(images.shape)}: wanted are uint8 [N, H, W, 3], "
            "channels last, or [N, H, W] for grey"
        )
    labels = None
    for name in LABEL_ARRAYS:
        if name in arrays and arrays[name].shape == images.shape[:1] and key != name:
            if np.issubdtype(arrays[name].dtype, np.integer):
                labels = arrays[name].read_all()
            break

    def load(index: int) -> np.ndarray:
        try:
            return images.read(index)
        except ARCHIVE_ERRORS as error:
            raise DataError(f"it cannot be read ({error})") from error

    names = [f"{key}[{i}]" for i in range(images.shape[0])]
    return ImageSet(text, names, load, labels, is_float=bool(is_float))


def _open_dataset(text: str, kind: str, rest: str, with_labels: bool) -> ImageSet:
    place, slash, split = rest.rpartition("/")
    if not slash or not split:
        raise ConfigError(
            f"{text}: wanted is {kind}:{'NAME' if kind == 'tfds' else 'DIRECTORY'}/SPLIT, as in "
            f"{kind}:{rest or 'photos'}/train"
        )
    source = open_source(
        place if kind == "tfds" else kind, split, None if kind == "tfds" else place
    )

    def load(index: int) -> Item:
        return source[index].image

    labels = np.asarray(getattr(source, "labels", ()))
    if with_labels and len(labels) != len(source):
        labels = np.array([source[i].label for i in range(len(source))])
    return ImageSet(
        text,
        [f"{split}[{i}]" for i in range(len(source))],
        load,
        labels if len(labels) == len(source) else None,
        tuple(source.class_names),
    )


def select_images(images: ImageSet, indices: Sequence[int]) -> ImageSet:
    """Returns some images of a set, in this order."""
    labels = None if images.labels is None else images.labels[np.asarray(indices, np.int64)]
    return ImageSet(
        images.name, [images.names[i] for i in indices], lambda i: images.load(indices[i]), labels,
        images.class_names, images.notes, images.is_float, images.nested,
    )  # fmt: skip
