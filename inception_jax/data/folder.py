"""Images in a folder for each class."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inception_jax.data.facts import digest_files
from inception_jax.data.source import DataError, Example


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
        self.class_names = tuple(sorted(entry.name for entry in _listed(root) if entry.is_dir()))
        files = [(label, *file) for label, name in enumerate(self.class_names) for file in _files(root / name)]
        filled = {label for label, _, _ in files}
        if empty := [name for label, name in enumerate(self.class_names) if label not in filled]:
            raise DataError(f"{root} holds no images of {', '.join(empty[:5])}: fill or remove such folders ({len(empty)} of them)")
        if not files:
            raise DataError(f"{root} holds no folders: wanted is one for each class")
        self._root, self._files = root, [(label, name) for label, name, _ in files]
        self._fingerprint = digest_files((f"{self.class_names[label]}/{name}", size) for label, name, size in files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        label, name = self._files[index]
        file = self._root / self.class_names[label] / name
        try:
            return Example(file.read_bytes(), label, str(file))
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error})") from error

    @property
    def labels(self) -> np.ndarray:
        """Returns those of all images, without reading any."""
        return np.array([label for label, _ in self._files])

    def fingerprint(self) -> str:
        """Returns one of the names and sizes of all files, listed once."""
        return self._fingerprint


def _listed(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error})") from error


def _files(folder: Path) -> list[tuple[str, int]]:
    """Returns name and size of each file in a folder, in the order of the names: one call to the system for each."""
    found = []
    for entry in _listed(folder):
        try:
            status = entry.stat()
        except OSError:  # a link to nothing, or a file that is gone by now
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((entry.name, status.st_size))
    return sorted(found)
