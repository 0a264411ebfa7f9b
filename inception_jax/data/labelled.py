"""Labelled images at a place that a person names: which of the datasets they are."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from inception_jax.data.idx import IDX_FILE
from inception_jax.data.listing import list_folders
from inception_jax.data.records import INDEX
from inception_jax.data.source import DataError

TRAINING_FOLDERS = {"train", "training"}
SPLIT_FOLDERS = TRAINING_FOLDERS | {"test", "testing", "val", "valid", "validation"}
"""Names of folders of splits, in lower case."""


def is_split(folder: Path, name: str) -> bool:
    """Returns whether a folder in `folder` is a split: by its name, and since it holds folders.

    Trains and tests are things that classes are called after, too.
    """
    return name.lower() in SPLIT_FOLDERS and bool(list_folders(folder / name)[0])


class LabelledImages(NamedTuple):
    """A dataset that was recognised.

    Attributes:
      name: Name of the dataset, for `registry.open_source`.
      split: Its split.
      directory: Its folder; None for a dataset of TFDS.
      assumption: A text about what was guessed; empty if nothing was.
    """

    name: str
    split: str
    directory: str | None
    assumption: str = ""


def recognise_images(place: str, split: str) -> LabelledImages:
    """Returns the dataset at a place: records, IDX files, a tree of images, or one of TFDS.

    A folder whose folders are no splits is taken as one split, `<class>/<image>`.

    Args:
      place: A folder, or the name of a dataset of TFDS.
      split: The split, or a part of it: `test[:1000]`.

    Raises:
      DataError: There is no such folder.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        if os.sep in place or folder.exists():
            raise DataError(
                f"{place} is no folder: give one of <split>/<class>/<image>, <class>/<image>, "
                "prepared records or IDX files, or the name of a dataset of TFDS"
            )
        return LabelledImages(place, split, None, f"{place} is taken as a dataset of TFDS")
    if (folder / INDEX).is_file():
        return LabelledImages("records", split, str(folder))
    if any(IDX_FILE.fullmatch(file.name) for file in folder.iterdir()):
        return LabelledImages("idx", split, str(folder))
    whole, bracket, part = re.sub(r"\s", "", split).partition("[")
    names, _ = list_folders(folder)
    splits = [name for name in names if name == whole or name.lower() in SPLIT_FOLDERS]
    if not names or any(list_folders(folder / name)[0] for name in splits):
        return LabelledImages("folder", split, str(folder))
    assumption = (
        f"{place} has no folder {whole}: its {len(names)} folders are taken as classes; "
        "--data-split names another split"
    )
    return LabelledImages("folder", f".{bracket}{part}", str(folder), assumption)
