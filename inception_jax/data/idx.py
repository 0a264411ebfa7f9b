"""IDX files, the format in which MNIST, Fashion-MNIST, EMNIST, KMNIST and QMNIST are published.

    DIRECTORY/train-images-idx3-ubyte.gz    00 00 08 03, N, H, W, then N * H * W bytes
    DIRECTORY/train-labels-idx1-ubyte.gz    00 00 08 01, N, then N bytes
    DIRECTORY/t10k-images-idx3-ubyte.gz, DIRECTORY/t10k-labels-idx1-ubyte.gz
    DIRECTORY/classes.txt                   optional: the name of a class per line

The third byte is the dtype, the fourth the number of sizes, which are big-endian. QMNIST's labels
are int32 [N, 8], of which the first column is the class.
"""

import gzip
import logging
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from inception_jax.atomic_io import split_lines
from inception_jax.data.listing import is_left_behind
from inception_jax.data.source import ArraySource, DataError

IDX_FILE = re.compile(
    r"(?:(?P<dataset>.+)-)?(?P<split>train|t10k|test)-(?P<content>images|labels)"
    r"[-.]idx\d-(?:ubyte|int)(?:\.gz)?"
)
"""Names of IDX files: `train-images-idx3-ubyte.gz`, `t10k-labels.idx1-ubyte`,
`emnist-letters-test-images-idx3-ubyte`, `qmnist-train-labels-idx2-int.gz`.
"""
IDX_DTYPES: dict[int, np.dtype] = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}
CLASS_NAMES_FILE = "classes.txt"
TRANSPOSED = "emnist"
"""Datasets whose images are stored with rows and columns exchanged. Source: the description of
`emnist` in the catalogue of TFDS, "inverted horizontally and rotated 90 anti-clockwise".
"""


def open_idx(split: str, directory: str | None) -> ArraySource:
    """Returns a split of a folder of IDX files, in memory.

    Images are [N, H, W] uint8. Classes are the labels of all splits, which count from 0 or 1.
    Their names are the lines of `classes.txt`, else the numbers. EMNIST's images are transposed.

    Args:
      split: `train` or `test`, whose files are called `t10k` or `test`.

    Raises:
      DataError: Files are missing, cannot be read or do not belong together, or the folder holds
        several datasets.
    """
    if directory is None:
        raise DataError(
            "data.name is idx: set data.directory to the folder that holds "
            "train-images-idx3-ubyte.gz and the other files of the dataset"
        )
    root = Path(directory).expanduser()
    files, is_transposed = find_idx_files(root)
    if split not in files:
        raise DataError(f"{root} has no split {split!r}; it has {', '.join(files)}")
    labels = {name: read_idx_labels(found["labels"]) for name, found in files.items()}
    file = files[split]["images"]
    images = read_idx_images(file)
    if len(images) != len(labels[split]):
        raise DataError(
            f"{file} holds {len(images):,} images, and {files[split]['labels'].name} "
            f"{len(labels[split]):,} labels: wanted is a label for each image; download both again"
        )
    first, names = _name_classes(np.concatenate(list(labels.values())), root)
    if is_transposed:
        logging.getLogger(__name__).warning(
            "%s: images are transposed, since EMNIST stores them on their side", file.name
        )
        images = images.swapaxes(1, 2)
    return ArraySource(images, labels[split] - first, names)


def find_idx_files(root: Path) -> tuple[dict[str, dict[str, Path]], bool]:
    """Returns the IDX files of a folder, and whether their images are transposed.

    Returns:
      Split (`train`, `test`) -> `images` and `labels` -> file; and whether the dataset is EMNIST's.

    Raises:
      DataError: There are none, or those of several datasets, or images without labels.
    """
    try:
        found = [
            IDX_FILE.fullmatch(file.name)
            for file in sorted(root.iterdir())
            if not is_left_behind(file.name)
        ]
    except OSError as error:
        raise DataError(
            f"{root} cannot be listed ({error.strerror}): wanted is a folder of IDX files"
        ) from error
    files: dict[str, dict[str, Path]] = {}
    datasets = set[str]()
    names = {name.string for name in found if name}
    for name in filter(None, found):
        if name.string.removesuffix(".gz") in names - {name.string}:
            continue  # unpacked beside its archive, as torchvision leaves them
        datasets.add(name["dataset"] or "MNIST's names")
        own = files.setdefault("train" if name["split"] == "train" else "test", {})
        if len(datasets) == 1 and name["content"] in own:
            raise DataError(
                f"{root} holds {own[name['content']].name} and {name.string}: remove one of them"
            )
        own[name["content"]] = root / name.string
    if not files:
        raise DataError(
            f"{root} holds no IDX files: wanted are train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or "
            "as .gz"
        )
    if len(datasets) > 1:
        raise DataError(
            f"{root} holds {len(datasets)} datasets, {', '.join(sorted(datasets))}: give a folder "
            "that holds the files of one"
        )
    for split, own in files.items():
        if missing := {"images", "labels"} - set(own):
            (there,) = own.values()
            raise DataError(
                f"{root} holds {there.name}, and no {missing.pop()} of {split}: put that file "
                "beside it"
            )
    return dict(sorted(files.items(), reverse=True)), datasets.pop().startswith(TRANSPOSED)


def read_idx_images(file: Path) -> np.ndarray:
    """Returns the images [N, H, W] uint8 of an IDX file.

    Raises:
      DataError: See `read_idx`; or it holds another array, or images without pixels.
    """
    images = read_idx(file)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(
            f"{file} holds {images.dtype} {list(images.shape)}: wanted are images, uint8 "
            "[N, H, W]; is it another file under this name?"
        )
    if not images.size:
        raise DataError(f"{file} holds no pixels: its sizes are {list(images.shape)}")
    return images


def read_idx_labels(file: Path) -> np.ndarray:
    """Returns the labels [N] int64 of an IDX file, the first column where there are several.

    Raises:
      DataError: See `read_idx`; or it holds another array, no labels or a negative one.
    """
    labels = read_idx(file)
    if labels.ndim not in (1, 2) or not labels.size:
        raise DataError(
            f"{file} holds {labels.dtype} {list(labels.shape)}: wanted are labels, [N] or, as in "
            "QMNIST, [N, 8]; is it another file under this name?"
        )
    labels = labels.reshape(len(labels), -1)[:, 0].astype(np.int64)
    if labels.min() < 0:
        raise DataError(f"{file} holds the label {labels.min()}: wanted are classes from 0 on")
    return labels


def read_idx(file: Path) -> np.ndarray:
    """Returns the array of an IDX file, which may be gzipped under any name.

    Raises:
      DataError: It cannot be read or unpacked, has another header, or more or fewer bytes than its
        sizes say.
    """
    try:
        data = file.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}): download it again") from error
    if (
        len(data) < 4
        or data[:2] != b"\0\0"
        or data[2] not in IDX_DTYPES
        or data[3] not in (1, 2, 3)
    ):
        raise DataError(
            f"{file} begins with the bytes {data[:4].hex(' ') or 'of an empty file'}: wanted are "
            "00 00, then 08 (bytes) or 0c (int32), then the number of sizes, 01 to 03; download it "
            "again"
        )
    dtype, start = IDX_DTYPES[data[2]], 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(
            f"{file} ends after {len(data)} bytes, and its header has {start}: download it again"
        )
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    needed = start + dtype.itemsize * math.prod(shape)
    if len(data) != needed:
        raise DataError(
            f"{file} holds {len(data):,} bytes, and its sizes {list(shape)} of {dtype} need "
            f"{needed:,}: download it again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _name_classes(labels: np.ndarray, root: Path) -> tuple[int, tuple[str, ...]]:
    """Returns the first label, and the names of the classes from there on."""
    found = np.unique(labels).tolist()
    first, last = found[0], found[-1]
    if first > 1 or len(found) != last - first + 1:
        raise DataError(
            f"{root} holds {len(found)} different labels from {first} to {last}: wanted are all "
            "numbers from 0 or 1 on without gaps"
        )
    named = root / CLASS_NAMES_FILE
    if not named.exists():
        return first, tuple(map(str, found))
    names = tuple(split_lines(named.read_bytes()))
    if len(names) != len(found) or len(set(names)) != len(names):
        raise DataError(
            f"{named} holds {len(set(names))} different names in {len(names)} lines, and there are "
            f"{len(found)} classes, {first} to {last}: write a line for each"
        )
    return first, names
