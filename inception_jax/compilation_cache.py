"""The persistent cache of compiled programs: its folder, its bound, its hits and misses."""

import contextlib
import glob
import hashlib
import os
import platform
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inception_jax.cache_folder import get_cache_folder
from inception_jax.monitoring.progress import log_line

COMPILATION_CACHE_VARIABLE = "INCEPTION_JAX_COMPILATION_CACHE"
NO_CACHE = "off"
MAX_CACHE_BYTES = 2 * 2**30
"""Size of the programs of all versions and processors above which the least recently used go."""
ENTRY_SUFFIX = "-cache"
MIN_COMPILE_SECONDS = "jax_persistent_cache_min_compile_time_secs"
EVENTS = "/jax/compilation_cache/"
FAULT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)")
"""Form of JAX's warnings about an entry; the second group is the name of the program."""


def format_platform_key() -> str:
    """Returns the version of jaxlib and a digest of the features of this processor.

    XLA rejects a program that was compiled by another version or for other features.
    """
    cpuinfo = Path("/proc/cpuinfo")
    features = re.search(
        r"^(?:flags|Features)\s*:(.*)$",
        cpuinfo.read_text() if cpuinfo.exists() else "",
        re.MULTILINE,
    )
    text = f"{platform.machine()} {features[1] if features else platform.processor()}"
    return f"{version('jaxlib')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@contextlib.contextmanager
def use_compilation_cache(choice: str | None = None) -> Iterator[None]:
    """Keeps the programs that are compiled in the body for later processes.

    Logs the hits and misses at the end. A folder or an entry that cannot be read or written costs a
    line in the log and nothing else. Several processes of one run use no cache unless it is given:
    JAX writes from the first process only, so that they must share the folder.

    Args:
      choice: The folder, or `off`; where not given, `INCEPTION_JAX_COMPILATION_CACHE`, then JAX's
        own settings, then `compiled` in the user's cache folder.
    """
    import jax

    config: Any = jax.config
    choice = choice or os.environ.get(COMPILATION_CACHE_VARIABLE)
    settings: dict[str, Any] = {}
    root = None
    if choice == NO_CACHE:
        settings["jax_enable_compilation_cache"] = False
    elif choice:
        root = Path(os.path.expanduser(choice)).absolute()
    elif not config.jax_compilation_cache_dir and not jax.distributed.is_initialized():
        root = get_cache_folder() / "compiled"
    if root and (folder := _make_folder(root)):
        settings["jax_compilation_cache_dir"] = str(folder)
        if MIN_COMPILE_SECONDS.upper() not in os.environ:
            settings[MIN_COMPILE_SECONDS] = 0.0
    before = {name: getattr(config, name) for name in settings}
    counts: Counter[str] = Counter()

    def count(event: str, **_: Any) -> None:
        counts[event] += 1

    _update_settings(settings)
    place = config.jax_compilation_cache_dir
    jax.monitoring.register_event_listener(count)
    try:
        with _handle_faults(Path(place or "")):
            yield
    finally:
        jax.monitoring.unregister_event_listener(count)
        _update_settings(before)
        requests, hits = (
            counts[f"{EVENTS}{name}"] for name in ("compile_requests_use_cache", "cache_hits")
        )
        if place and requests and jax.process_index() == 0:
            misses = requests - hits  # JAX itself counts only those that it writes
            log_line(
                f"compilation cache: {hits} hit{'s' * (hits != 1)}, {misses} "
                f"miss{'es' * (misses != 1)} ({place})"
            )
        if root and counts[f"{EVENTS}cache_misses"]:
            remove_least_recent(root, MAX_CACHE_BYTES)


def _update_settings(settings: Mapping[str, Any]) -> None:
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:
        reset_cache()  # JAX reads them once


def _make_folder(root: Path) -> Path | None:
    """Returns the folder of this platform below `root`; None, with a warning, if it fails."""
    folder = root / format_platform_key()
    try:
        # Programs from the cache are run: nobody else may write them.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _log_fault(f"{folder} cannot be made ({error.strerror})")
        return None
    return folder


def _log_fault(fault: str) -> None:
    log_line(
        f"compilation cache: {fault}: programs are compiled again at each start; set "
        f"{COMPILATION_CACHE_VARIABLE} to a folder that can be written, or to {NO_CACHE}"
    )


@contextlib.contextmanager
def _handle_faults(folder: Path) -> Iterator[None]:
    """Removes entries that JAX cannot read or finish, in place of its warnings.

    JAX writes entries in place. One that a full disk or a killed process has cut off would stay, as
    JAX never replaces an entry. JAX warns before it compiles and writes the program anew.
    """
    show, is_logged = warnings.showwarning, False

    def handle(message: Warning | str, *arguments: Any, **options: Any) -> None:
        nonlocal is_logged
        fault = FAULT.match(str(message))
        if fault is None:
            show(message, *arguments, **options)
            return
        action, program, reason = fault.groups()
        for entry in folder.glob(f"{glob.escape(program)}-*{ENTRY_SUFFIX}"):
            with contextlib.suppress(OSError):
                entry.unlink()
        if action == "writing" and not is_logged:
            is_logged = True
            _log_fault(f"{folder} cannot be written ({reason})")

    warnings.showwarning = handle
    try:
        yield
    finally:
        warnings.showwarning = show


def remove_least_recent(root: Path, max_bytes: int) -> None:
    """Removes the least recently used programs below `root` until the rest fits in `max_bytes`.

    Times of access may be a day old (`relatime`), or those of writing (`noatime`).
    """
    found = []
    for entry in root.glob(f"*/*{ENTRY_SUFFIX}"):
        with contextlib.suppress(OSError):  # another process has removed it
            status = entry.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, entry))
    total = sum(size for _, size, _ in found)
    for _, size, entry in sorted(found):
        if total <= max_bytes:
            return
        with contextlib.suppress(OSError):
            entry.unlink()
        total -= size
