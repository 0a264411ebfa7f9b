"""Files of features, for any number of images.

Features are written in parts while the network computes. A part is in the folder `FILE.part` whole
or not at all, so that a command that was killed continues after the last one.
"""

import hashlib
import io
import itertools
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.atomic_io import format_json, sync_folder, wrap_read_errors, write_atomically
from inception_jax.checkpointing.run_record import collect_versions
from inception_jax.config import ConfigError
from inception_jax.data.images import Image
from inception_jax.data.source import DataError
from inception_jax.monitoring.progress import log_line, show_progress
from inception_jax.weights.library import load_library
from inception_jax.weights.predictor import Predictor

PART_IMAGES = 4096
"""Images of a part, rounded to whole batches: a row group of a Parquet file."""
PART_BYTES = 2**26
"""Bytes of the features of a part: end points early in a network have fewer images in one."""
METADATA_KEY = "inception_jax"
"""Key of a Parquet schema's metadata; the value is JSON."""


class SavedFeatures(NamedTuple):
    """The result of `save_features`.

    Attributes:
      shape: Shape of the features, [N, ...].
      unreadable: Indices of the images that could not be read, which have no row.
    """

    shape: tuple[int, ...]
    unreadable: list[int]


def check_feature_file(file: Path) -> None:
    """Raises an error for a file of another format, or one that needs a missing library.

    Raises:
      ConfigError: The suffix is no format's, or pyarrow is not installed.
    """
    if file.suffix not in TABLES:
        raise ConfigError(
            f"--output {file}: features are kept in files called .npz (NumPy) or .parquet"
        )
    if file.suffix == ".parquet":
        load_library("pyarrow.parquet", "parquet")


def save_features(
    predictor: Predictor,
    images: Sequence[Image],
    file: Path,
    end_point: str | None = None,
    *,
    names: Sequence[str] | None = None,
) -> SavedFeatures:
    """Writes the features of images to a file, `.npz` or `.parquet`, and returns their shape.

    Parts that an earlier call for the same images, weights and end point left are not computed
    again. With the same batch size the file has the same bytes as without the stop. Of several
    processes the primary one writes.

    Args:
      names: Names of the images in the file; default: their paths.

    Raises:
      ConfigError: There is no such end point or format, or `FILE.part` is of another request.
      DataError: No image can be read, or a part is damaged.
    """
    check_feature_file(file)
    if not images:
        raise DataError("no images were named: give files or folders of images")
    names = [str(image) for image in images] if names is None else names
    compute = predictor.make_compute(end_point)
    batch_size = predictor.choose_batch_size(len(images))
    shape = predictor.infer_shape(compute, batch_size)
    facts = {**predictor.collect_facts(), "end_point": end_point, "shape": shape}
    broadcast = predictor.placement.broadcast_from_primary
    store, start, unreadable = None, 0, []
    if predictor.is_primary:
        store = _FeatureStore(file, names, facts)
        start, unreadable = store.num_images, list(store.unreadable)
        if start:
            log_line(f"{start:,} of {len(images):,} images are in {store.folder} already")
    start = broadcast(start)
    unreadable = [
        broadcast(unreadable[i] if store else 0) for i in range(broadcast(len(unreadable)))
    ]
    row_bytes = 4 * math.prod(shape)
    part_batches = max(1, min(PART_IMAGES, PART_BYTES // row_bytes) // batch_size)
    rows = predictor.each(images, compute, start=start)
    if predictor.is_primary:
        shown = show_progress(images[start:], "computing")
        rows = (row for _, row in zip(shown, rows, strict=True))
    with ThreadPoolExecutor(1) as writer:
        writing = None
        while part := list(itertools.islice(rows, part_batches * batch_size)):
            unreadable += [start + i for i, row in enumerate(part) if row is None]
            start += len(part)
            if store:
                if writing:  # one part is written while the next is computed
                    writing.result()
                writing = writer.submit(store.append, part)
        if writing:
            writing.result()
    if len(unreadable) == len(images):
        if store:
            store.remove()
        raise DataError(f"{names[0]}: {predictor.explain_failure(images[0])}")
    if store:
        store.publish()
    return SavedFeatures((len(images) - len(unreadable), *shape), unreadable)


class _FeatureStore:
    """The parts of a file, and the unfinished file itself, in the folder `FILE.part`.

    Attributes:
      folder: The folder.
      num_images: Number of images in the parts.
      unreadable: Indices of those that could not be read.
    """

    def __init__(self, file: Path, names: Sequence[str], facts: Mapping[str, Any]):
        """Opens or makes the folder, and begins the file with the features that are there.

        Raises:
          ConfigError: The folder has parts of another request.
          DataError: A part is damaged.
        """
        self.folder, self.num_images = file.with_name(f"{file.name}.part"), 0
        self.unreadable: list[int] = []
        self._file, self._names, self._shape = file, names, tuple(facts["shape"])
        self._check_request(facts)
        self._unfinished = self.folder / "unfinished"
        metadata = {**facts, "versions": collect_versions()}
        self._table = TABLES[file.suffix](self._unfinished, self._shape, metadata)
        while (part := self._part_file).exists():
            self._extend(*_read_part(part))

    def _check_request(self, facts: Mapping[str, Any]) -> None:
        names = "\0".join(self._names).encode(errors="surrogateescape")
        request = {
            "weights": facts["digest"],
            "end point": facts["end_point"],
            "preprocessing": facts["preprocessing"],
            "images": f"{len(self._names)}, SHA-256 {hashlib.sha256(names).hexdigest()}",
        }
        file = self.folder / "request.json"
        if self._part_file.exists():
            with wrap_read_errors(file, ConfigError, f"remove {self.folder}"):
                recorded = json.loads(file.read_bytes()) if file.exists() else {}
                odd = [name for name in request if recorded.get(name) != request[name]]
            if odd:
                raise ConfigError(
                    f"{self.folder} has features of another request (other {', '.join(odd)}): give "
                    "the command that began it, or another --output, or remove the folder"
                )
            return
        self.folder.mkdir(exist_ok=True)
        write_atomically(file, format_json(request, indent=1))

    @property
    def _part_file(self) -> Path:
        """Returns the path of the part that begins with image `num_images`."""
        return self.folder / f"{self.num_images:010d}.npz"

    def append(self, rows: Sequence[np.ndarray | None]) -> None:
        """Writes the next part; None stands for an unreadable image.

        Raises:
          StorageError: It cannot be written.
        """
        found = [row for row in rows if row is not None]
        features = np.stack(found) if found else np.zeros((0, *self._shape), np.float32)
        if features.dtype.kind != "f":  # bfloat16, which files do not have
            features = features.astype(np.float32)
        is_readable = np.array([row is not None for row in rows])
        with io.BytesIO() as archive:
            np.savez(archive, features=features, is_readable=is_readable)
            write_atomically(self._part_file, archive.getvalue())
        self._extend(features, is_readable)

    def _extend(self, features: np.ndarray, is_readable: np.ndarray) -> None:
        places = self.num_images + np.arange(len(is_readable))
        self.num_images += len(is_readable)
        self.unreadable += places[~is_readable].tolist()
        self._table.append([self._names[i] for i in places[is_readable]], features)

    def publish(self) -> None:
        """Moves the file to its place, and removes the folder."""
        self._table.close()
        with open(self._unfinished, "rb") as written:
            os.fsync(written.fileno())
        os.replace(self._unfinished, self._file)
        sync_folder(self._file.parent)
        self.remove()

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)


def _read_part(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features [n, ...] of a part, and whether each of its images was readable.

    Raises:
      DataError: It is damaged.
    """
    try:
        with np.load(file) as part:
            return part["features"], part["is_readable"]
    except Exception as error:  # a damaged archive raises errors of every class
        raise DataError(
            f"{file} cannot be read ({error!r:.200}): remove it, and the same command computes its "
            "images again"
        ) from error


class _NpzTable:
    """An `.npz` of `features` [N, ...] and `images` [N], which is in memory until it is closed."""

    def __init__(self, file: Path, shape: tuple[int, ...], metadata: Mapping[str, Any]):
        self._file = file
        self._names: list[str] = []
        self._parts: list[np.ndarray] = []

    def append(self, names: list[str], features: np.ndarray) -> None:
        """Adds rows."""
        self._names += names
        self._parts.append(features)

    def close(self) -> None:
        """Writes the file."""
        with open(self._file, "wb") as file:
            np.savez(file, features=np.concatenate(self._parts), images=np.array(self._names))


class _ParquetTable:
    """A Parquet file of `image` and `features`, in row groups.

    A name that is not valid UTF-8 has escapes, as in messages.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], metadata: Mapping[str, Any]):
        self._arrow = load_library("pyarrow", "parquet")
        self._size = math.prod(shape)
        arrow = self._arrow
        row = arrow.list_(arrow.field("element", arrow.float32(), nullable=False), self._size)
        self._schema = arrow.schema(
            [
                arrow.field("image", arrow.string(), nullable=False),
                arrow.field("features", row, nullable=False),
            ],
            metadata={METADATA_KEY: format_json(metadata)},
        )
        parquet = load_library("pyarrow.parquet", "parquet")
        self._writer = parquet.ParquetWriter(
            file, self._schema, use_dictionary=False, write_statistics=["image"]
        )

    def append(self, names: list[str], features: np.ndarray) -> None:
        """Writes a row group."""
        if not names:
            return
        arrow, (image, row) = self._arrow, self._schema.types
        values = features.astype(np.float32, copy=False).reshape(-1)
        columns = [
            arrow.array([name.encode(errors="backslashreplace").decode() for name in names], image),
            arrow.FixedSizeListArray.from_arrays(arrow.array(values), type=row),
        ]
        table = arrow.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(names))

    def close(self) -> None:
        """Writes the end of the file."""
        self._writer.close()


TABLES: dict[str, type[_NpzTable] | type[_ParquetTable]] = {
    ".npz": _NpzTable,
    ".parquet": _ParquetTable,
}
"""Suffix of a file -> its format."""
