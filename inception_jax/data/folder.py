"""Images in a folder for each class."""

from pathlib import Path

import numpy as np

from inception_jax.data.facts import hash_file_list
from inception_jax.data.listing import list_files, list_folders, report_left_out
from inception_jax.data.source import DataError, Example


class FolderSource:
    """The images of `<directory>/<split>/<class>/.../<image>`, sorted by class and name.

    Folders within a class's folder are read too, and links are followed. The name of an image does
    not matter. Files that operating systems and editors create are ignored (`listing`); a warning
    names and counts all other files that are left out.

    Attributes:
      nested: Number of files in folders within a class's folder.

    Raises:
      DataError: The folder or its classes are missing, a class has no images, or a link is broken.
    """

    def __init__(self, split: str, directory: str | None):
        if directory is None:
            raise DataError(
                "data.name is folder: set data.directory to the folder that holds "
                "<split>/<class>/<image>"
            )
        root = Path(directory).expanduser() / split
        if not root.is_dir():
            there = list_folders(root.parent)[0] if root.parent.is_dir() else []
            splits = (
                f"; there are folders {', '.join(there[:5])}: is one of them the split?"
                if there
                else ""
            )
            raise DataError(
                f"{root} is no folder: wanted is <data.directory>/{split}/<class>/<image>{splits}"
            )
        names, others = list_folders(root)
        listed = {name: list_files(root / name) for name in names}
        if broken := [f"{name}/{file}" for name in names for file in listed[name].broken]:
            raise DataError(
                f"{root / broken[0]} is a link to nothing, or cannot be looked at: mend or remove "
                f"it ({len(broken)} such in {root})"
            )
        if others:
            report_left_out(root, [("in no class folder", others)])
        for name in names:
            report_left_out(root / name, listed[name].left_out.items())
        if empty := [name for name in names if not listed[name].files]:
            raise DataError(
                f"{root} holds no images of {', '.join(empty[:5])}: fill or remove such folders "
                f"({len(empty)} of them)"
            )
        if not names:
            raise DataError(f"{root} holds no folders: wanted is one for each class")
        files = [(label, *file) for label, name in enumerate(names) for file in listed[name].files]
        self.class_names = tuple(names)
        self.nested = sum("/" in name for _, name, _ in files)
        self._root, self._files = root, [(label, name) for label, name, _ in files]
        self._fingerprint = hash_file_list(
            (f"{self.class_names[label]}/{name}", size) for label, name, size in files
        )

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
