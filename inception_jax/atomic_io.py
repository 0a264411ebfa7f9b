"""Atomic writes: a reader finds the old or the new contents, also after a crash of the machine."""

import codecs
import contextlib
import errno
import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from inception_jax.errors import ExitCode, UserError


class StorageError(UserError, OSError):
    """A disk or an object store that did not store what was written."""

    exit_code = ExitCode.STORAGE


def write_atomically(path: epath.Path | Path, content: str | bytes) -> None:
    """Writes `content` to `path`, on a disk or in an object store, at once or not at all.

    Raises:
      StorageError: It cannot be written; the old contents are unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    if is_object_store(path):
        try:
            path.write_bytes(data)  # such a store takes an object whole, or not at all
        except Exception as error:  # each store's client has errors of its own
            raise StorageError(f"{path} cannot be written: {error}") from error
        return
    unfinished = make_temporary_name(path)
    try:
        with open(unfinished, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise StorageError(f"{path} cannot be written: {error}") from error


@contextlib.contextmanager
def wrap_read_errors(file: Any, kind: type[UserError], remedy: str) -> Iterator[None]:
    """Turns errors of the body into `FILE cannot be read (why): remedy`, of class `kind`.

    A damaged file raises errors of every class. A missing file, and an error that names the file
    already, are raised as they are.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
    ) as error:
        if isinstance(error, UserError) and str(file) in str(error):
            raise
        raise kind(f"{file} cannot be read ({error!r:.200}): {remedy}") from error


def make_temporary_name(path: Any) -> Any:
    """Returns an unpredictable name in the folder of `path`, at which nobody can place a link."""
    return path.with_name(f"{path.name[:200]}.{secrets.token_hex(4)}.tmp")


def split_lines(data: bytes) -> list[str]:
    """Returns the lines of a text in UTF-8, or in UTF-16 with a byte order mark.

    Marks and empty last lines are removed. Invalid UTF-8 becomes surrogates, so that file names
    stay exact.
    """
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            text = data.removeprefix(mark).decode(
                encoding, errors="surrogateescape" if encoding == "utf-8" else "replace"
            )
            break
    else:
        text = data.decode(errors="surrogateescape")
    lines = re.split(r"\r\n|\n|\r", text)
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def sync_folder(folder: Any) -> None:
    """Flushes the names of a folder to the disk, where its file system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that may be written to, and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # it has no such call
            raise
    finally:
        os.close(descriptor)


def format_json(value: Any, *, indent: int | None = None) -> str:
    """Returns `value` as valid JSON, with null for NaN and infinite numbers."""
    return json.dumps(replace_nan(value), indent=indent, allow_nan=False)


def replace_nan(value: Any) -> Any:
    """Returns `value`, lists and dictionaries, with None for NaN and infinite numbers."""
    if isinstance(value, dict):
        return {name: replace_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: epath.Path, line: str) -> None:
    """Appends a line to a file on a disk.

    Raises:
      StorageError: It cannot be written.
    """
    try:
        with open(path, "a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


def is_object_store(path: epath.Path | Path) -> bool:
    """Whether `path` is in an object store, which cannot append, nor rename a folder at once."""
    return "://" in str(path)
