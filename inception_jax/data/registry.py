"""The datasets by name."""

import re
from collections.abc import Callable
from typing import Any, cast

from inception_jax.data.folder import FolderSource
from inception_jax.data.idx import open_idx
from inception_jax.data.records import RecordSource
from inception_jax.data.source import DataError, PartSource, Source, split_by_class
from inception_jax.data.synthetic import SyntheticSource
from inception_jax.data.tfds import TfdsSource

OpenSource = Callable[[str, str | None], Source]
"""A function: (split, directory) -> source. Splits are whole; `open_source` takes parts of them."""


def register_dataset(name: str, open_source: OpenSource) -> None:
    """Adds a dataset: `register_dataset("my_photos", open_my_photos)`.

    Args:
      open_source: (split, directory) -> `Source`.
    """
    if name in SOURCES:
        raise ValueError(f"a dataset named {name!r} is registered already; choose another name")
    SOURCES[name] = open_source


def open_source(
    name: str,
    split: str,
    directory: str | None = None,
    *,
    holdout: float = 0.0,
    holdout_seed: int = 0,
) -> Source:
    """Returns the source of a split of a dataset.

    The dataset is a registered one, or any other image-classification set of TFDS.

    Args:
      split: `train`, or a part of it: `train[:1000]`, `train[90%:]`.
      directory: The folder of the data; None for the default.
      holdout: Fraction of each class that is the split `test` of a folder without splits
        (`<directory>/<class>/<image>`); the rest is `train`. 0 for data with splits.
      holdout_seed: Seed of that choice.

    Raises:
      DataError: The dataset is unknown, not prepared, or not for image classification.
    """
    if holdout:
        if name != "folder" or split not in ("train", "test"):
            raise DataError(
                f"data.holdout is for data.name folder and the splits train and test, and these "
                f"are {name} and {split}: leave it out"
            )
        whole = FolderSource(".", directory)
        return split_by_class(whole, cast(Any, split), holdout, holdout_seed)
    if name not in SOURCES:
        return TfdsSource(name, split, directory)
    found = re.fullmatch(r"(?P<whole>[^\[\]]+)(?:\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?", split)
    if not found:
        raise DataError(
            f"a split {split!r} cannot be understood; say train, train[:1000] or train[90%:]"
        )
    source = SOURCES[name](found["whole"], directory)
    if split == found["whole"]:
        return source
    bounds = [
        _bound(found["start"] or "0%", len(source)),
        _bound(found["stop"] or "100%", len(source)),
    ]
    return PartSource(source, range(*bounds))


def _bound(text: str, length: int) -> int:
    return round(length * int(text[:-1]) / 100) if text.endswith("%") else min(int(text), length)


SOURCES: dict[str, OpenSource] = {
    "folder": FolderSource,
    "idx": open_idx,
    "records": RecordSource,
    "synthetic": SyntheticSource,
}
"""Datasets other than TFDS's, to which packages of users add theirs."""
