"""Where examples come from: anything with a length whose items are an image and a label."""

import contextlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np


class DataError(ValueError):
    """Data that is missing or cannot be read; the message says what was found and what to do."""

    exit_code = 65


class Example(NamedTuple):
    """An encoded image (JPEG, PNG, ...), or its pixels as uint8 [H, W] or [H, W, C]; and its class."""

    image: bytes | np.ndarray
    label: int


class Source(Protocol):
    """Random access to examples. Reading item i twice gives the same example."""

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


Open = Callable[[str, str | None], Source]
"""(split, directory) -> source."""

SOURCES: dict[str, Open] = {}
"""What users' packages add; every other name is TFDS's."""


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
