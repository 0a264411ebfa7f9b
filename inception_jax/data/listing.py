"""The files in a folder that a person made, and what of it is no image."""

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from inception_jax.data.source import DataError
from inception_jax.errors import escape_control_characters

LEFT_BEHIND = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
}
"""Names of files that operating systems create, in lower case. Names that begin with a dot
(.DS_Store, ._1.jpg) are ignored too.
"""
MAX_NAMED_FILES = 3
"""Files that a message names of each kind."""


class Listing(NamedTuple):
    """The files below a folder, sorted by name, and the files that are left out.

    Attributes:
      files: (path below the folder, size in bytes) of each file.
      left_out: Reason -> paths.
      broken: Broken links, and folders and files that cannot be read.
    """

    files: list[tuple[str, int]]
    left_out: dict[str, list[str]]
    broken: list[str]


def is_left_behind(name: str) -> bool:
    """Returns whether a name is one that operating systems and editors use, and people do not."""
    return name.startswith(".") or name.endswith("~") or name.lower() in LEFT_BEHIND


def list_files(folder: Path) -> Listing:
    """Returns all files below a folder, through links; each is read once.

    Raises:
      DataError: The folder itself cannot be listed.
    """
    found = Listing([], {}, [])
    _list(folder, "", (os.path.realpath(folder),), found)
    found.files.sort(
        key=(lambda file: file[0].split("/"))
        if any("/" in name for name, _ in found.files)
        else None
    )  # as paths compare
    return found


def list_folders(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the sorted names of the folders in a folder, and of its other entries.

    Files that operating systems create are ignored.

    Raises:
      DataError: The folder cannot be listed.
    """
    folders, others = list[str](), list[str]()
    for entry in _scan(folder):
        if not is_left_behind(entry.name):
            (folders if entry.is_dir() else others).append(entry.name)
    return sorted(folders), sorted(others)


def report_left_out(place: Path, left_out: Iterable[tuple[str, list[str]]]) -> None:
    """Warns of what is left out of a folder: how many, why, and the first of them."""
    for reason, names in left_out:
        more = f" and {len(names) - MAX_NAMED_FILES:,} more" if len(names) > MAX_NAMED_FILES else ""
        logging.getLogger(__name__).warning(
            "%s: %s left out, %s: %s%s",
            escape_control_characters(place),
            f"{len(names):,}",
            reason,
            ", ".join(map(escape_control_characters, sorted(names)[:MAX_NAMED_FILES])),
            more,
        )


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror or error})") from error


def _list(folder: Path, below: str, within: tuple[str, ...], found: Listing) -> None:
    """Adds what is in `folder`, whose real path and those of the folders around it are `within`."""
    for entry in _scan(folder):
        name = f"{below}{entry.name}"
        if is_left_behind(entry.name):
            continue
        try:
            if entry.is_dir():
                real = (
                    os.path.realpath(entry.path)
                    if entry.is_symlink()
                    else f"{within[-1]}/{entry.name}"
                )
                if real in within:
                    found.left_out.setdefault("links to a folder that holds them", []).append(name)
                else:
                    _list(Path(entry.path), f"{name}/", (*within, real), found)
                continue
            status = entry.stat()
        except (OSError, DataError):
            found.broken.append(name)
            continue
        if stat.S_ISREG(status.st_mode):
            found.files.append((name, status.st_size))
        else:
            found.left_out.setdefault("no regular files", []).append(name)
