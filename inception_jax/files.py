"""Writing a file whole: whoever reads it finds the old text or the new one, even after a fall of the machine."""

import os

from etils import epath


class StorageError(OSError):
    """A disk or an object store did not take what was written."""

    exit_code = 74


def put(path: epath.Path, content: str | bytes) -> None:
    """Writes `content` to `path` in one go, on a disk or in an object store.

    Raises:
      StorageError: it cannot be written; what was there is there still.
    """
    data = content.encode() if isinstance(content, str) else content
    if is_object(path):
        try:
            path.write_bytes(data)  # such a store takes an object whole, or not at all
        except Exception as error:  # each store's client has errors of its own
            raise StorageError(f"{path} cannot be written: {error}") from error
        return
    try:
        unfinished = path.with_name(f"{path.name}.tmp")
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


def append(path: epath.Path, line: str) -> None:
    """Adds a line to a file on a disk.

    Raises:
      StorageError: it cannot be written.
    """
    try:
        with open(path, "a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


def is_object(path: epath.Path) -> bool:
    """Whether `path` is in an object store, where nothing is appended to and no folder is renamed in one go."""
    return "://" in str(path)
