"""Images in a folder for each class."""

from pathlib import Path

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
