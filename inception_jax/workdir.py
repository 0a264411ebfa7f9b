"""The folder that a run lives in: claimed by one configuration, and opened again from it."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any, NamedTuple

from etils import epath

from inception_jax import __version__
from inception_jax.checkpoint import CheckpointError, Checkpoints, StorageError
from inception_jax.config import ConfigError, Experiment, differences, from_json, to_json
from inception_jax.experiment import Run
from inception_jax.logbook import say
from inception_jax.loop import resume
from inception_jax.mesh import Placement, everything
from inception_jax.training.state import State


def absolute(path: str) -> epath.Path:
    """Orbax wants absolute paths; one with a scheme (gs://...) is that already."""
    return epath.Path(path if "://" in path else os.path.abspath(path))


def claim(workdir: epath.Path, config: Experiment) -> None:
    """Makes `workdir` this experiment's, and writes the resolved configuration into it.

    Raises:
      ConfigError: it holds a run of another identity, which stays as it is.
      StorageError: it cannot be written.
    """
    file = workdir / "experiment.json"
    if file.exists():
        changed = differences(stored(workdir), config)
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise ConfigError(f"{workdir} holds a run of another configuration:\n{lines}\nchoose another --workdir, or move that one away")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        unfinished = workdir / "experiment.json.tmp"
        unfinished.write_text(json.dumps(to_json(config), indent=2) + "\n")
        unfinished.replace(file)
    except OSError as error:
        raise StorageError(f"the workdir {workdir} cannot be written ({error}): choose another --workdir") from error


def stored(workdir: epath.Path) -> Experiment:
    """The configuration that a workdir was claimed with.

    Raises:
      ConfigError: there is none, or it cannot be read.
    """
    try:
        return from_json(json.loads((workdir / "experiment.json").read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{workdir} is no workdir: it has no experiment.json; give the folder of a run") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{workdir}/experiment.json cannot be read ({error}): move the folder away") from error


def record(workdir: epath.Path, placement: Placement) -> list[str]:
    """Writes `run.json`: what the numbers of a run hang on beside its configuration.

    Returns:
      What was different when this run last ran: `jax: 0.10.2 -> 0.11.0`.
    """
    now = {**placement.describe(), **versions()}
    file = workdir / "run.json"
    before = json.loads(file.read_text()) if file.exists() else now
    file.write_text(json.dumps({**now, "command": sys.argv}, indent=2) + "\n")
    return [f"{name}: {before.get(name)} -> {value}" for name, value in now.items() if before.get(name) != value]


def versions() -> dict[str, Any]:
    """Of Python, this package and those below it; the commit, in a checkout; visible cores and compiler flags."""
    git = ["git", "-C", os.path.dirname(__file__), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError:  # no git here
        commit = ""
    names = ["jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"]
    return {
        "inception-jax": __version__,
        "commit": commit or None,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


class Opened(NamedTuple):
    """A workdir, its run in this room, and a state of it."""

    workdir: epath.Path
    run: Run
    state: State


def members(path: str) -> list[str]:
    """The workdirs under the folder of an ensemble, which are numbered; or the one workdir itself."""
    root = absolute(path)
    if (root / "experiment.json").exists() or not root.exists():
        return [path]
    numbered = sorted((folder for folder in root.iterdir() if folder.name.isdigit()), key=lambda folder: int(folder.name))
    return [str(folder) for folder in numbered if (folder / "experiment.json").exists()] or [path]


def following(path: str, *, every: float) -> Iterator[Opened]:
    """The newest state of a run that is being made elsewhere, and each later one as it is saved, until the run's last.

    Args:
      every: seconds between two looks.

    Raises:
      ConfigError: no run.
    """
    workdir = absolute(path)
    run = Run(stored(workdir), everything())
    target, reached, waits = run.abstract_state(), -1, False
    while reached < run.steps:
        checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
        try:
            newest = max(checkpoints.steps(), default=-1)
            state = checkpoints.restore(newest, target) if newest > reached else None
        except (OSError, CheckpointError):
            if newest in checkpoints.steps():
                raise  # or it was removed while it was read, since a newer one has come
            continue
        finally:
            checkpoints.close()
        if state is not None:
            reached, waits = newest, False
            yield Opened(workdir, run, state)
            continue
        if not waits:
            say(f"waiting for the next checkpoint of {path}" + (f", after step {reached}" if reached >= 0 else ""))
            waits = True
        time.sleep(every)


def opened(path: str) -> Opened:
    """A workdir, its run in this room, and its newest state.

    Raises:
      ConfigError: no run, or one without a checkpoint.
    """
    workdir = absolute(path)
    config = stored(workdir)
    run = Run(config, everything())
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints, leads=False)
    state = resume(run, checkpoints)
    checkpoints.close()
    if state is None:
        raise ConfigError(f"{workdir} has no finished checkpoint yet: train first, with the same --workdir")
    return Opened(workdir, run, state)
