"""Where examples come from: anything with a length whose items are an image and a label."""

import contextlib
import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class DataError(ValueError):
    """Data that is missing or cannot be read; the message says what was found and what to do."""

    exit_code = 65


class Example(NamedTuple):
    """An encoded image (JPEG, PNG, ...), or its pixels as uint8 [H, W] or [H, W, C]; its class; and its file, if it has one."""

    image: bytes | np.ndarray
    label: int
    name: str = ""

    def at(self, index: int) -> str:
        """What an error calls it."""
        return f"example {index} ({self.name})" if self.name else f"example {index}"


class Source(Protocol):
    """Random access to examples. Reading item i twice gives the same example."""

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


Open = Callable[[str, str | None], Source]
"""(split, directory) -> source."""


def register(name: str, open_source: Open) -> None:
    """Adds a dataset: `register("my_photos", open_my_photos)`, where open_my_photos(split, directory) gives a `Source`."""
    if name in SOURCES:
        raise ValueError(f"a dataset named {name!r} is registered already; choose another name")
    SOURCES[name] = open_source


def open_source(name: str, split: str, directory: str | None = None) -> Source:
    """Opens one split of a dataset: a registered one, or any image-classification set of TFDS.

    Raises:
      DataError: unknown, not prepared, or not image classification.
    """
    if name in SOURCES:
        return SOURCES[name](split, directory)
    return TfdsSource(name, split, directory)


@dataclass
class ArraySource:
    """Examples held in memory."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]))


class FolderSource:
    """A folder for each class: `<directory>/<split>/<class>/<image>`, classes and images in the order of their names.

    What an image is called does not matter, only what it holds. Names that begin with a dot are passed over.
    """

    def __init__(self, split: str, directory: str | None):
        if directory is None:
            raise DataError("data.name is folder: set data.directory to the folder that holds <split>/<class>/<image>")
        root = Path(directory).expanduser() / split
        if not root.is_dir():
            raise DataError(f"{root} is no folder: wanted is <data.directory>/{split}/<class>/<image>")
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        self.class_names = tuple(folder.name for folder in folders)
        self._files = [
            (file, label)
            for label, folder in enumerate(folders)
            for file in sorted(folder.iterdir())
            if file.is_file() and not file.name.startswith(".")
        ]
        filled = {label for _, label in self._files}
        if empty := [name for label, name in enumerate(self.class_names) if label not in filled]:
            raise DataError(f"{root} holds no images of {', '.join(empty[:5])}: fill or remove such folders ({len(empty)} of them)")
        if not folders:
            raise DataError(f"{root} holds no folders: wanted is one for each class")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        file, label = self._files[index]
        try:
            return Example(file.read_bytes(), label, str(file))
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error})") from error


class SyntheticSource:
    """Stripes in ten directions under noise, 64x64 pixels: learnable, the same for ever, and as many as are asked for.

    The splits are `train` (10,000) and `test` (1,000), or `train[:N]` for N of them.
    """

    class_names = tuple(f"{18 * label} degrees" for label in range(10))

    def __init__(self, split: str, directory: str | None):
        found = re.fullmatch(r"(train|test)(?:\[:(\d+)\])?", split)
        if not found:
            raise DataError(f"synthetic has no split {split!r}; it has train, test, and slices like train[:5000]")
        self._length = int(found[2] or {"train": 10_000, "test": 1_000}[found[1]])
        self._split = ("train", "test").index(found[1])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        words = np.random.Philox(key=[self._split, index]).random_raw(1 + 64 * 64 // 8)
        label, phase = int(words[0] % np.uint64(10)), float(words[0] >> np.uint64(32)) / 2**32
        rows, columns = np.mgrid[:64, :64]
        angle = np.pi * label / 10
        wave = np.sin(2 * np.pi * ((rows * np.cos(angle) + columns * np.sin(angle)) / 8 + phase))
        noise = words[1:].view(np.uint8).reshape(64, 64)
        return Example((0.5 * noise + 63 * (1 + wave)).astype(np.uint8), label)


class TfdsSource:
    """A TFDS dataset in ArrayRecord, read without TensorFlow. The digits are prepared when first asked for."""

    def __init__(self, name: str, split: str, directory: str | None):
        builder = prepared_builder(name, directory)
        if split.partition("[")[0] not in builder.info.splits:
            raise DataError(f"{name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
        features = builder.info.features
        if not {"image", "label"} <= set(features):
            raise DataError(f"{name} holds {', '.join(features)}: an image-classification set holds 'image' and 'label'")
        self.class_names = tuple(features["label"].names)
        self._records = builder.as_data_source(split=split, decoders=_undecoded())

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        return Example(record["image"], int(record["label"]))


SOURCES: dict[str, Open] = {"folder": FolderSource, "synthetic": SyntheticSource}
"""What is no TFDS dataset; users' packages add theirs. Every other name is TFDS's."""


def _undecoded() -> dict[str, Any]:
    import tensorflow_datasets as tfds

    return {"image": tfds.decode.SkipDecoding()}


def prepared_builder(name: str, directory: str | None):
    """The TFDS builder of a dataset that is on disk as ArrayRecord; the digits are put there if they are not."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS tells of each file that it opens or misses
    import tensorflow_datasets as tfds

    options: dict[str, Any] = {"data_dir": directory, "file_format": "array_record"}
    try:
        if name == "digits":
            from inception_jax.data.digits_builder import InceptionJaxDigits

            builder = InceptionJaxDigits(**options)
        else:
            builder = tfds.builder(name, **options)
    except (tfds.core.DatasetNotFoundError, tfds.core.registered.DatasetNotFoundError) as error:
        raise DataError(f"no dataset is called {name!r}: TFDS does not know it, and no imported package registers it") from error
    if not builder.is_prepared():
        if name != "digits":
            raise DataError(
                f"{name} is not prepared in {builder.data_dir}: run\n"
                f"  python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}', file_format='array_record')"
                f'.download_and_prepare()"\nor set data.directory to where it is'
            )
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it announces a download; there is none
                builder.download_and_prepare()
        except OSError as error:
            raise DataError(f"the digits cannot be prepared in {builder.data_dir} ({error}): set data.directory") from error
    return builder
