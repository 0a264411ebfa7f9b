"""Images by the names of their files: what is looked at, and not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_jax.data.source import DataError, Example

Image = str | Path | bytes | np.ndarray
"""A file, its bytes, or pixels as uint8 [H, W] or [H, W, C]."""


@dataclass
class FileSource:
    """Images that have no label, each read when it is asked for."""

    images: Sequence[Image]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        image = self.images[index]
        if isinstance(image, bytes | np.ndarray):
            return Example(image, 0)
        try:
            return Example(Path(image).read_bytes(), 0, str(image))
        except OSError as error:
            raise DataError(f"{image} cannot be read ({error.strerror or error})") from error


def images_in(names: Sequence[str | Path]) -> list[Path]:
    """The files that are named, and those in the folders that are, in the order of their names.

    Raises:
      DataError: a folder without files.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{name} is a folder without files: give images, or a folder that holds some")
        found += files
    return found
