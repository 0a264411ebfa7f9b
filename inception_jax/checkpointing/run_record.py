"""`run.json`: what a run ran on, attempt by attempt, and how each of them ended."""

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
from typing import TYPE_CHECKING, Any

import jax
from etils import epath

from inception_jax import __version__
from inception_jax.atomic_io import format_json, wrap_read_errors, write_atomically
from inception_jax.config import ConfigError

if TYPE_CHECKING:
    from inception_jax.distributed.mesh import Placement

ATTEMPT_FACTS = ("began", "ended", "outcome", "command")
"""What says nothing of whether two attempts compute the same."""


class RunRecord:
    """The attempts of one run. An attempt that was killed has no end.

    Args:
      is_primary: whether this process writes.
    """

    def __init__(self, workdir: epath.Path, *, is_primary: bool = True):
        self._file, self._leads = workdir / "run.json", is_primary
        self._lock = threading.Lock()  # a signal ends an attempt from a thread of its own
        self.attempts = read_attempts(workdir)

    def begin(self, placement: "Placement") -> list[str]:
        """Notes that an attempt begins.

        Returns:
          What was different when this run last ran: `jax: 0.10.2 -> 0.11.0`.
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

    def end(self, outcome: str) -> None:
        """Notes how the attempt ended."""
        self.attempts[-1] |= {"ended": format_now(), "outcome": outcome}
        with suppress(OSError):  # a disk that is full has been told of
            self._write()

    def _write(self) -> None:
        if self._leads:
            with self._lock:
                write_atomically(
                    self._file, format_json({"attempts": self.attempts}, indent=2) + "\n"
                )


def read_attempts(workdir: epath.Path) -> list[dict[str, Any]]:
    """What `run.json` holds; nothing where there is none.

    Raises:
      ConfigError: it cannot be read.
    """
    file = workdir / "run.json"
    if not file.exists():
        return []
    with wrap_read_errors(file, ConfigError, "move it away, and the run goes on without it"):
        made = [
            _without_patch(dict(attempt)) for attempt in json.loads(file.read_bytes())["attempts"]
        ]
        if not all(
            isinstance(one.get(name), str | None)
            for one in made
            for name in ("began", "ended", "outcome")
        ):
            raise ValueError("an attempt's beginning and end are text")
        return made


def diff_environments(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`jax: 0.10.2 -> 0.11.0` for each fact of two attempts that bit for bit hangs on."""
    names = [name for name in now if name not in ATTEMPT_FACTS]
    shown = {
        name: (before[name], now[name])
        for name in names
        if name in before and before[name] != now[name]
    }
    return [
        f"{name}: {a} -> {b}" if name != "uncommitted" else "uncommitted changes"
        for name, (a, b) in shown.items()
    ]


def format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect_versions() -> dict[str, Any]:
    """Of Python, this package and those below it; the commit, in a checkout; visible cores and compiler flags."""
    names = [
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "numpy",
        "opencv-python-headless",
        "pillow",
        "simplejpeg",
    ]
    return {
        "inception-jax": __version__,
        "commit": _git("rev-parse", "--short", "HEAD").strip() or None,
        "python": platform.python_version(),
        **{name: get_version(name) for name in names},
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **collect_jax_settings(),
    }


def collect_jax_settings() -> dict[str, Any]:
    """Returns settings of JAX by which the same run draws other numbers, or computes in another precision."""
    config: Any = jax.config
    return {
        "matmul_precision": config.jax_default_matmul_precision or "",
        "prng_impl": config.jax_default_prng_impl,
        "threefry_partitionable": getattr(
            config, "jax_threefry_partitionable", True
        ),  # the only form, once JAX drops the other
        "x64": config.jax_enable_x64,
    }


def check_jax_settings(workdir: epath.Path) -> None:
    """Compares JAX's settings with those of the attempt before, where it noted them.

    Raises:
      ConfigError: some differ; the run would not go on to the same bits.
    """
    if changed := diff_environments((read_attempts(workdir) or [{}])[-1], collect_jax_settings()):
        raise ConfigError(
            f"the run in {workdir} was begun under other settings of JAX ({', '.join(changed)}): set them as they were (JAX_ENABLE_X64, "
            "JAX_DEFAULT_PRNG_IMPL, JAX_THREEFRY_PARTITIONABLE, JAX_DEFAULT_MATMUL_PRECISION), or choose another --workdir"
        )


def collect_shared_facts() -> dict[str, Any]:
    """What all processes of a run must have alike of it: not the number of cores."""
    return {name: value for name, value in collect_versions().items() if name != "cores"} | {
        "uncommitted changes": hash_uncommitted_changes()["sha256"]
    }


def hash_uncommitted_changes() -> dict[str, Any]:
    """Returns the `files` of a checkout that are not as its commit has them, and the beginning of the `sha256` of the difference.

    The difference itself is not recorded: a report is shown to others, and there may be a secret in it.
    """
    files = _git("diff", "--name-only", "HEAD", "--", ".").splitlines()
    return {"files": files, "sha256": _digest(_git("diff", "HEAD", "--", ".")) if files else None}


def _without_patch(attempt: dict[str, Any]) -> dict[str, Any]:
    """Returns an attempt whose changes are a digest: an earlier version recorded the whole patch."""
    patch = attempt.get("uncommitted")
    if isinstance(patch, str):
        names = [
            line.removeprefix("+++ b/") for line in patch.splitlines() if line.startswith("+++ b/")
        ]
        attempt["uncommitted"] = {"files": names, "sha256": _digest(patch) if patch else None}
    return attempt


def _digest(patch: str) -> str:
    return hashlib.sha256(patch.encode()).hexdigest()[:12]


def get_version(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _git(*arguments: str) -> str:
    """What git says of this package; nothing where it is no checkout (but perhaps installed within another), or git is not there."""
    root = os.path.dirname(os.path.dirname(__file__))
    if not os.path.exists(os.path.join(root, ".git")):
        return ""
    try:
        line = ["git", "-C", root, *arguments]
        return subprocess.run(line, capture_output=True, timeout=10).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
