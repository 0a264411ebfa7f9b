"""Images by the names of their files: what is looked at, and not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_jax.data.listing import list_files, report_left_out
from inception_jax.data.source import DataError, Example

Image = str | Path | bytes | np.ndarray
"""A file, its bytes, or pixels as uint8 [H, W] or [H, W, C]."""


@dataclass
class FileSource:
    """Images without labels, each read on access."""

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
        except (OSError, ValueError) as error:  # a name may have a null in it
            raise DataError(
                f"{str(image)[:300]} cannot be read ({getattr(error, 'strerror', None) or error})"
            ) from error


def list_images(names: Sequence[str | Path]) -> list[Path]:
    """Returns the named files, and those below the named folders, sorted by name.

    Broken links are listed, so that they are reported as unreadable images. Files of operating
    systems and folders whose names begin with a dot are ignored; a warning names and counts all
    other files that are left out.

    Raises:
      DataError: A folder has no files.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        try:
            is_folder = path.is_dir()
        # A name that the system does not take, which is reported as an image that cannot be read
        except OSError:
            is_folder = False
        if not is_folder:
            found.append(path)
            continue
        listing = list_files(path)
        report_left_out(path, listing.left_out.items())
        if not listing.files and not listing.broken:
            raise DataError(
                f"{name} is a folder without files: give images, or a folder that holds some"
            )
        found += [
            path / file
            for file in sorted(
                [*(name for name, _ in listing.files), *listing.broken],
                key=lambda file: file.split("/"),
            )
        ]
    return found
