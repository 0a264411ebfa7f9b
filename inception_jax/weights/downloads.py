"""Downloads of published files, which are checked before they are used.

`huggingface_hub` fetches from repositories, with its own cache (`HF_HOME`), token and offline mode
(`HF_HUB_OFFLINE=1`, which holds here for addresses too); `pooch` fetches from addresses.
"""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.errors import STORAGE_FAULTS
from inception_jax.weights.library import load_library

CHUNK = 2**16
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
TIMEOUTS = (10, 60)
"""Seconds to wait for a connection, and for the next bytes."""


def is_offline() -> bool:
    """Returns whether the environment forbids downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def download_from_repository(repository: str, file: str) -> Path:
    """Returns the path of a file of a Hugging Face repository, in that library's cache.

    The file is fetched if the cache lacks it, and compared with its digest in the repository: a
    SHA-256 for large files, Git's SHA-1 for others.

    Raises:
      DataError: The repository or file is not there, the server does not answer, or the file in the
        cache is damaged, which is then deleted.
    """
    hub = load_library("huggingface_hub", "hub")
    try:
        found = Path(hub.hf_hub_download(repository, file, endpoint=os.environ.get("HF_ENDPOINT")))
    except Exception as error:  # the library's, its HTTP client's and the operating system's errors
        _raise_storage_error(error)
        raise DataError(f"{repository}/{file}: {_explain(error)}") from error
    # The cache has links to files that are named by their digests.
    digest = Path(os.readlink(found)).name if found.is_symlink() else ""
    if (actual := _hash_as(found, digest)) not in ("", digest):
        found.resolve().unlink()
        found.unlink()
        raise DataError(
            f"{found} is damaged: its digest is {actual[:16]}..., wanted is {digest[:16]}...; it "
            "is deleted: run the command again to download it"
        )
    return found


def _hash_as(file: Path, digest: str) -> str:
    """Returns the digest of a file of the kind of `digest`; empty for a name that is none."""
    if re.fullmatch("[0-9a-f]{64}", digest):
        return digest_file(file, "sha256")
    if re.fullmatch("[0-9a-f]{40}", digest):
        content = file.read_bytes()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    return ""


def download_from_address(url: str, target: Path, digests: Mapping[str, str]) -> Path:
    """Downloads `url` to `target`, unless a file with the right digests lies there already.

    A part that an interrupted download left (`target` with `.part`) is completed.

    Args:
      digests: Name of a hash (`sha256`, `md5`, `sha1`) -> its first hexadecimal digits.

    Raises:
      DataError: The server does not answer or has no such file, or the file has another digest; it
        is then deleted.
    """
    if not target.is_file():
        if is_offline():
            raise DataError(f"{url}: HF_HUB_OFFLINE is set, which forbids downloads")
        pooch = load_library("pooch", "hub")
        pooch.get_logger().setLevel("WARNING")
        part = target.with_name(f"{target.name}.part")
        try:
            pooch.retrieve(
                url, None, fname=target.name, path=target.parent,
                downloader=_ResumingDownloader(part, is_resumable=bool(digests)),
            )  # fmt: skip
        except Exception as error:  # errors of the HTTP client and of the operating system
            _raise_storage_error(error)
            raise DataError(f"{url}: {_explain(error)}") from error
    try:
        check_digests(target, digests)
    except DataError as error:
        target.unlink()
        raise DataError(f"{error}; it is deleted") from None
    return target


def check_digests(file: Path, digests: Mapping[str, str]) -> None:
    """Raises an error for a file with other digests.

    Args:
      digests: Name of a hash -> its first hexadecimal digits.

    Raises:
      DataError: One differs.
    """
    for kind, wanted in digests.items():
        actual = digest_file(file, kind)
        if not actual.startswith(wanted.lower()):
            raise DataError(
                f"{file} is not the published file: its {kind} is {actual[: len(wanted)]}, wanted "
                f"is {wanted}"
            )


def digest_file(file: Path, kind: str) -> str:
    """Returns the hexadecimal digest of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, kind).hexdigest()


class _ResumingDownloader:
    """Downloads an address for pooch, and continues the part of an earlier attempt."""

    def __init__(self, part: Path, *, is_resumable: bool):
        self._part, self._is_resumable = part, is_resumable

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        requests = load_library("requests", "hub")
        tqdm = load_library("tqdm", "hub").tqdm
        if not self._is_resumable:  # nothing would tell whether two halves are of one file
            self._part.unlink(missing_ok=True)
        begin = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS)
        with contextlib.closing(response):
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._part.unlink()  # of another file, or whole already: begin again
                self(url, output_file, pooch)
                return
            response.raise_for_status()
            is_continued = response.status_code == requests.codes.partial_content
            begin = begin if is_continued else 0
            total = int(response.headers.get("Content-Length", 0)) + begin
            bar = tqdm(
                total=total or None, initial=begin, desc=self._part.stem, unit="B", unit_scale=True
            )
            with self._part.open("ab" if is_continued else "wb") as opened, bar:
                for chunk in response.iter_content(CHUNK):
                    opened.write(chunk)
                    bar.update(len(chunk))
        os.replace(self._part, output_file)


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, the error that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raise_storage_error(error: Exception) -> None:
    """Raises the storage's error, such as a full disk, that `error` is or was caused by.

    Raises:
      ConfigError: A folder cannot be written.
      OSError: The storage failed.
    """
    for cause in _list_causes(error):
        if not isinstance(cause, OSError):
            continue
        if cause.filename and cause.errno in UNWRITABLE:
            raise ConfigError(
                f"{cause.filename} cannot be written ({cause.strerror}): set HF_HOME, or "
                "INCEPTION_JAX_CACHE, to another folder"
            ) from error
        if cause.errno in STORAGE_FAULTS:
            raise cause


def _explain(error: Exception) -> str:
    """Returns the reason of a failed download in one line."""
    for cause in _list_causes(error):
        if status := getattr(getattr(cause, "response", None), "status_code", None):
            if status in (401, 403):  # huggingface.co answers 401 for a name that it does not have
                return (
                    f"the server answers {status}: check the name; if the repository asks for it, "
                    "accept its terms on its page and set HF_TOKEN"
                )
            return f"the server answers {status}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")
