"""Weights of known releases by id: downloaded, checked, converted once, and kept in the cache.

An id is `timm/inception_v3.tv_in1k`, one of `releases.RELEASES`, or `hf-hub:owner/name` for a timm
repository of Hugging Face that the table does not have.
"""

import contextlib
import difflib
import fnmatch
import gzip
import json
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inception_jax.atomic_io import wrap_read_errors, write_atomically
from inception_jax.cache_folder import get_cache_folder
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.monitoring.progress import log_line
from inception_jax.weights import downloads
from inception_jax.weights.library import load_library
from inception_jax.weights.releases import RELEASES, KnownRelease, Release

if TYPE_CHECKING:
    from inception_jax.weights.convert.importer import ImportedWeights

CONVERSION_VERSION = 1
"""Version of converted files in the cache. A change of the conversion increments it."""
HUB_PREFIX = "hf-hub:"
READ_BYTES = 2**20
TIMM_FILE, TIMM_CONFIG = "model.safetensors", "config.json"
_BY_ID = {release.id: release for release in RELEASES}
_PROJECTS = {release.source for release in RELEASES}
READERS = {"keras": ("h5py", "keras"), "tf_slim": ("tensorflow", "tensorflow")}
"""Project -> the library that reads its files, and the extra that installs it."""


def list_releases(pattern: str = "*") -> list[Release]:
    """Returns the known releases whose id or network matches a pattern such as `*resnet50*`."""
    return [
        release
        for release in RELEASES
        if fnmatch.fnmatch(release.id, pattern) or fnmatch.fnmatch(release.model, pattern)
    ]


def is_release_id(text: str | Path) -> bool:
    """Returns whether `text` names a release, rather than a file or a workdir.

    A path that exists is never an id, nor is a step of a workdir (`runs/digits@5`).
    """
    name = str(text)
    if name.startswith(HUB_PREFIX):
        return True
    project, slash, rest = name.partition("/")
    if not slash or project not in _PROJECTS or "/" in rest:
        return False
    places = (Path(name), Path(re.sub(r"@\d+$", "", name)))
    return Path(name).suffix != ".safetensors" and not any(place.exists() for place in places)


def list_near_ids(text: str) -> list[str]:
    """Returns the ids of at most three releases that `text` may mean."""
    wanted = text.lower().replace("hf_hub:", "").removeprefix(HUB_PREFIX)
    whole = difflib.get_close_matches(wanted, _BY_ID, n=3, cutoff=0.6)
    by_name = {id.partition("/")[2]: id for id in _BY_ID}
    return whole or [by_name[name] for name in difflib.get_close_matches(wanted, by_name, n=3)]


def get_release(id: str) -> Release:
    """Returns the release of an id.

    Raises:
      ConfigError: There is no such release; the message names the nearest ones.
    """
    if id in _BY_ID:
        return _BY_ID[id]
    if id.startswith(HUB_PREFIX):
        repository = id.removeprefix(HUB_PREFIX)
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository) or ".." in repository:
            raise ConfigError(f"{id}: wanted is {HUB_PREFIX}OWNER/NAME")
        known = next((one for one in RELEASES if one.repository == repository), None)
        return known or Release(id, "", repository=repository, file=TIMM_FILE)
    near = list_near_ids(id)
    hint = f"; near are {', '.join(near)}" if near else ""
    raise ConfigError(
        f"no release is called {id!r}{hint}: `inception-jax weights list` names all, and "
        f"{HUB_PREFIX}OWNER/NAME takes another repository of timm"
    )


def get_cached_path(release: Release) -> Path:
    """Returns the path in the cache of the converted weights of a release."""
    folder, _, name = release.id.replace(":", "/", 1).partition("/")
    name = f"{name.replace('/', '--')}.safetensors"
    return _get_folder() / str(CONVERSION_VERSION) / folder / name


def resolve_weights(name: str | Path) -> Path | str:
    """Returns the path of a weights file for the id of a release; any other name as it is.

    The release is downloaded and converted if the cache lacks it.

    Raises:
      ConfigError, DataError: See `get_release` and `pull_weights`.
    """
    return pull_weights(get_release(str(name))) if is_release_id(name) else name


def resolve_on_all_processes(name: str) -> str:
    """Returns what `resolve_weights` does, in a run of several processes.

    The primary process downloads and converts before the others, which then find the file where
    they share the cache, and fetch it where they do not.

    Raises:
      ConfigError, DataError: See `resolve_weights`; in all processes, if the primary fails.
    """
    if not is_release_id(name):
        return name
    import jax

    from inception_jax.distributed.mesh import all_devices_placement

    if jax.process_count() == 1:
        return str(resolve_weights(name))
    placement, problem = all_devices_placement(), None
    if placement.is_primary:
        try:
            resolve_weights(name)
        except Exception as error:
            problem = error
    if placement.broadcast_from_primary(int(problem is not None)):
        raise problem or DataError(f"{name}: the first process could not get it: see its message")
    return str(resolve_weights(name))


def pull_weights(release: Release, *, local_copy: Path | None = None, again: bool = False) -> Path:
    """Returns the path of the converted weights of a release, in the cache.

    Two processes at once are safe: the second waits for the first.

    Args:
      local_copy: The release's own file, instead of a download; replaces what is in the cache.
      again: Whether to replace a converted file that is there.

    Raises:
      DataError: The file cannot be downloaded, or is not what the table says.
      ConfigError: A library is missing, or the cache cannot be written.
    """
    path = get_cached_path(release)
    again = again or local_copy is not None
    if path.is_file() and not again:
        return path
    with _lock(path):
        if path.is_file() and not again:  # another process has converted it meanwhile
            return path
        if library := READERS.get(release.source):
            load_library(*library)  # before the download, which may be long
        if local_copy is not None:
            found = _check_and_convert(release, local_copy, by="the user's word")
        elif release.repository:
            found = _convert(release, _download_from_repository(release))
        else:
            found = _download_and_convert(release)
        _save(found, path)
    return path


def _get_folder() -> Path:
    return get_cache_folder() / "weights"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds the lock of a file in the cache.

    Raises:
      ConfigError: The cache cannot be written.
    """
    filelock = load_library("filelock", "hub")
    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log_line(f"another process is getting {path.stem}: waiting for it")
        lock.acquire()
    except OSError as error:
        raise ConfigError(
            f"the cache folder {path.parent} cannot be written ({error.strerror or error}): set "
            "INCEPTION_JAX_CACHE to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _download_from_repository(release: Release) -> Path:
    with _explaining(release, "in the cache of huggingface_hub (HF_HOME)"):
        file = downloads.download_from_repository(release.repository, release.file)
        if release.id.startswith(HUB_PREFIX):
            downloads.download_from_repository(release.repository, TIMM_CONFIG)
        return file


def _download_and_convert(release: Release) -> "ImportedWeights":
    """Returns the weights of a release that is published under an address.

    The downloaded file is deleted after its conversion.
    """
    target = _get_folder() / "downloads" / release.source / release.file
    if not release.url and not target.is_file():
        raise DataError(
            f"{release.id} has no address for programs: get {release.file} from {release.page}, "
            f"then `inception-jax weights pull {release.id} --file FILE`"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with _explaining(release, f"at {target}"):
        downloads.download_from_address(release.url, target, release.digests)
    try:
        found = _check_and_convert(release, target, by="its id")
    except DataError as error:
        target.unlink()
        raise DataError(f"{error}; {target} is deleted") from error
    target.unlink()
    return found


@contextlib.contextmanager
def _explaining(release: Release, place: str) -> Iterator[None]:
    """Adds to the error of a download where a copy of the file may be put."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"{release.id} cannot be downloaded: {error}. Without a network: put {release.file} "
            f"{place}, or name a copy: inception-jax weights pull {release.id} --file FILE"
        ) from error


def _check_and_convert(release: Release, file: Path, by: str) -> "ImportedWeights":
    """Returns the weights of a file that is checked to be the release's.

    A file without a published digest is compared with the first one that could be converted.

    Args:
      by: How the file is known, where no published digest says it.

    Raises:
      DataError: It is another file.
    """
    if not file.is_file():
        raise DataError(f"{file} is no file: give {release.file} of {release.id}")
    downloads.check_digests(file, release.digests)
    if release.digests:
        return _convert(release, file)
    digest = downloads.digest_file(file, "sha256")
    record = get_cached_path(release).with_suffix(".sha256")
    first = record.read_text().strip() if record.is_file() else ""
    if first not in ("", digest):
        raise DataError(
            f"{file} is not the first file of {release.id}: its SHA-256 is {digest}, wanted is "
            f"{first}; if its publisher has replaced it, delete {record}"
        )
    if not first:
        log_line(f"{file}: no digest is known here that tells it to be {release.id}")
    found = _convert(release, file, by)
    write_atomically(record, f"{digest}\n")
    return found


def _convert(release: Release, file: Path, by: str = "its id") -> "ImportedWeights":
    """Returns a release's file as weights of this package, and prints how it was understood.

    Raises:
      DataError: It is not what the table says.
    """
    from inception_jax.weights.convert.importer import import_weights
    from inception_jax.weights.convert.preprocessing import format_preprocessing

    with contextlib.ExitStack() as stack:
        if release.member:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_get_folder())))
            source = _extract(file, release.member, folder)
        else:
            source = file
        if release.id.startswith(HUB_PREFIX):
            model, licence = _read_timm_facts(file.parent / TIMM_CONFIG, release)
            try:
                found = import_weights(
                    "timm", source, model, licence=licence, origin_name=release.id
                )
            except DataError as error:
                raise DataError(
                    f"{error}; options are of `inception-jax convert {source} --from timm --model "
                    f"{model}`"
                ) from error
        else:
            found = import_weights(
                release.source, source, release.model, release=KnownRelease(release, by)
            )
    card = found.card
    if release.num_classes is not None and card.num_classes != release.num_classes:
        raise DataError(
            f"{file} has {card.num_classes} classes, and {release.id} has {release.num_classes}: "
            "it is another file; get the release's own"
        )
    log_line(f"{release.id}: fed {format_preprocessing(card.data)}; licence {card.licence}")
    return found._replace(card=replace(card, file=release.file))


def _extract(archive: Path, member: str, folder: Path) -> Path:
    """Returns the path of a file out of an archive of TF-Slim.

    Raises:
      DataError: The archive is damaged, or has no such file.
    """
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream) as opened:
            for part in opened.getmembers():  # of a checkpoint of several files, all
                name = part.name.removeprefix("./")
                if name == member or name.startswith(f"{member}."):
                    opened.extract(part, folder, filter="data")
            # tarfile stops before gzip's checksum: 60 of 60 flipped bits went unseen.
            while stream.read(READ_BYTES):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} cannot be read ({error}): download it again") from error
    return folder / member


def _read_timm_facts(config: Path, release: Release) -> tuple[str, str]:
    """Returns the network and the licence that a timm repository states.

    Raises:
      DataError: It states no network, or one that this package lacks.
    """
    from inception_jax.models import ALIASES
    from inception_jax.weights.convert.sources import SOURCES

    if not config.is_file():
        raise DataError(
            f"{release.id}: there is no {config}, which a repository of timm has: put it beside "
            f"{release.file}"
        )
    with wrap_read_errors(config, DataError, "wanted is a repository of timm"):
        facts = json.loads(config.read_bytes())
        architecture = str(facts["architecture"])
        licence = str(facts.get("pretrained_cfg", {}).get("license") or "unknown")
    name = ALIASES.get(architecture, architecture)
    if name not in SOURCES["timm"]:
        raise DataError(
            f"{release.id} is a {architecture}, which this package lacks; it has "
            f"{', '.join(SOURCES['timm'])}"
        )
    return architecture, licence


def _save(found: "ImportedWeights", path: Path) -> None:
    from inception_jax.weights import files
    from inception_jax.weights.reference.parity import measure_parity

    references, parity = measure_parity(found, check=False)
    files.save(path, replace(found.card, parity=parity), found.variables, references)
