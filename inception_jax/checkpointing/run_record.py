"""The record of a run in `run.json`: the environment and the outcome of each attempt."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from etils import epath

from inception_jax import __version__
from inception_jax.atomic_io import format_json, wrap_read_errors, write_atomically
from inception_jax.config import ConfigError

if TYPE_CHECKING:
    from inception_jax.distributed.mesh import Placement

ATTEMPT_FIELDS = ("began", "ended", "outcome", "command")
"""The fields of an attempt that are no part of its environment."""

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
)


class RunRecord:
    """The attempts of one run, in `workdir/run.json`. An attempt that was killed has no end.

    Args:
      is_primary: Whether this process writes the file.

    Raises:
      ConfigError: The file cannot be read.
    """

    def __init__(self, workdir: epath.Path, *, is_primary: bool = True):
        self._file, self._is_primary = workdir / "run.json", is_primary
        self._lock = threading.Lock()  # a signal ends an attempt from another thread
        self.attempts = read_attempts(workdir)

    def begin_attempt(self, placement: "Placement") -> list[str]:
        """Records the start of an attempt and its environment.

        Returns:
          The changes of the environment since the last attempt: `jax: 0.10.2 -> 0.11.0`.
        """
        now = {
            **placement.collect_device_facts(),
            **collect_versions(),
            "uncommitted": hash_uncommitted_changes(),
        }
        before = self.attempts[-1] if self.attempts else now
        self.attempts.append(
            {"began": format_now(), "ended": None, "outcome": None, **now, "command": sys.argv}
        )
        self._write()
        return diff_environments(before, now)

    def end_attempt(self, outcome: str) -> None:
        """Records the end of the attempt: `complete`, or the error."""
        self.attempts[-1] |= {"ended": format_now(), "outcome": outcome}
        with suppress(OSError):  # a full disk was already reported
            self._write()

    def _write(self) -> None:
        if self._is_primary:
            with self._lock:
                text = format_json({"attempts": self.attempts}, indent=2)
                write_atomically(self._file, text + "\n")


def read_attempts(workdir: epath.Path) -> list[dict[str, Any]]:
    """Returns the attempts in `run.json`; none if the file does not exist.

    Raises:
      ConfigError: The file cannot be read.
    """
    file = workdir / "run.json"
    if not file.exists():
        return []
    with wrap_read_errors(file, ConfigError, "move it away, and the run goes on without it"):
        stored = json.loads(file.read_bytes())["attempts"]
        attempts = [_replace_patch_by_digest(dict(attempt)) for attempt in stored]
        for attempt in attempts:
            for name in ("began", "ended", "outcome"):
                if not isinstance(attempt.get(name), str | None):
                    raise ValueError("an attempt's beginning and end are text")
        return attempts


def diff_environments(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns a line for each fact that changed between two attempts: `jax: 0.10.2 -> 0.11.0`.

    Covers the facts that bit-for-bit equal results depend on, as far as both attempts have them.
    """
    names = [name for name in now if name not in ATTEMPT_FIELDS and name in before]
    return [
        f"{name}: {before[name]} -> {now[name]}" if name != "uncommitted" else "uncommitted changes"
        for name in names
        if before[name] != now[name]
    ]


def format_now() -> str:
    """Returns the time now, in UTC and ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect_versions() -> dict[str, Any]:
    """Returns what a run computes with, on this host.

    The versions of Python, of this package and of its dependencies; the commit, in a checkout; the
    number of visible cores; compiler flags and settings of JAX.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "inception-jax": __version__,
        "commit": _run_git("rev-parse", "--short", "HEAD").strip() or None,
        "python": platform.python_version(),
        **{name: get_version(name) for name in PACKAGES},
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **collect_jax_settings(),
    }


def collect_jax_settings() -> dict[str, Any]:
    """Returns the settings of JAX that change random numbers or the precision of a run."""
    config: Any = jax.config
    # The partitionable form is the only one once JAX drops the other, and the setting with it.
    threefry_partitionable = getattr(config, "jax_threefry_partitionable", True)
    return {
        "matmul_precision": config.jax_default_matmul_precision or "",
        "prng_impl": config.jax_default_prng_impl,
        "threefry_partitionable": threefry_partitionable,
        "x64": config.jax_enable_x64,
    }


def check_jax_settings(workdir: epath.Path) -> None:
    """Compares JAX's settings with those of the last attempt, as far as it recorded them.

    Raises:
      ConfigError: A setting differs: the run would not go on to the same bits.
    """
    if changed := diff_environments((read_attempts(workdir) or [{}])[-1], collect_jax_settings()):
        raise ConfigError(
            f"the run in {workdir} was begun under other settings of JAX ({', '.join(changed)}): "
            "set them as they were (JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL, "
            "JAX_THREEFRY_PARTITIONABLE, JAX_DEFAULT_MATMUL_PRECISION), or choose another --workdir"
        )


def collect_shared_facts() -> dict[str, Any]:
    """Returns the facts that must be equal in all processes of a run: not the number of cores."""
    facts = {name: value for name, value in collect_versions().items() if name != "cores"}
    return facts | {"uncommitted changes": hash_uncommitted_changes()["sha256"]}


def hash_uncommitted_changes() -> dict[str, Any]:
    """Returns the changed `files` of a checkout, and the start of the `sha256` of their patch.

    The patch itself is not recorded: reports are shared, and it may contain a secret.
    """
    files = _run_git("diff", "--name-only", "HEAD", "--", ".").splitlines()
    sha256 = _hash_patch(_run_git("diff", "HEAD", "--", ".")) if files else None
    return {"files": files, "sha256": sha256}


def _replace_patch_by_digest(attempt: dict[str, Any]) -> dict[str, Any]:
    """Converts an attempt of an earlier version, which recorded the whole patch."""
    patch = attempt.get("uncommitted")
    if isinstance(patch, str):
        prefix = "+++ b/"
        lines = [line for line in patch.splitlines() if line.startswith(prefix)]
        names = [line.removeprefix(prefix) for line in lines]
        attempt["uncommitted"] = {"files": names, "sha256": _hash_patch(patch) if patch else None}
    return attempt


def _hash_patch(patch: str) -> str:
    return hashlib.sha256(patch.encode()).hexdigest()[:12]


def get_version(name: str) -> str | None:
    """Returns the version of an installed package; None if it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _run_git(*arguments: str) -> str:
    """Returns the output of a git command in the checkout of this package.

    The output is empty without git, and outside a checkout: an installed package may lie within the
    checkout of another project.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        line = ["git", "-C", str(root), *arguments]
        return subprocess.run(line, capture_output=True, timeout=10).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
