"""The folder that a run lives in: claimed by one configuration, and opened again from it."""

import json
import os
import platform
import re
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
    except (FileNotFoundError, NotADirectoryError):
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


STEP = re.compile(r"@\d+$")
"""Behind a workdir: not its newest checkpoint, but that of this step."""


class Opened(NamedTuple):
    """A workdir, its run in this room, and a state of it."""

    workdir: epath.Path
    run: Run
    state: State


def members(path: str) -> list[str]:
    """The workdirs in the folder of an ensemble, whose names are numbers from 1; or the one workdir itself.

    Raises:
      ConfigError: a member is missing.
    """
    root = absolute(path)
    if not root.is_dir() or (root / "experiment.json").exists():
        return [path]
    numbers = sorted(int(folder.name) for folder in root.iterdir() if folder.name.isdigit())
    if missing := sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers)):
        raise ConfigError(f"{path} has no member {missing[0]}, and has {numbers[-1]}: train it, or name the workdirs one by one")
    return [str(root / str(number)) for number in numbers] or [path]


def following(path: str, *, every: float) -> Iterator[Opened]:
    """The newest state of a run that is being made elsewhere, and each later one that is found, until the run's last.

    Args:
      every: seconds between two looks.

    Raises:
      ConfigError: no run.
      CheckpointError: a checkpoint that is damaged, and still there at the next look.
    """
    workdir = absolute(path)
    run = Run(stored(workdir), everything())
    target, reached, failed, waits = run.abstract_state(), -1, -1, False
    while reached < run.steps:
        checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
        newest, state = max(checkpoints.steps(), default=-1), None
        try:
            if newest > reached:
                state = checkpoints.restore(newest, target)
        except (OSError, CheckpointError):
            if newest == failed:
                raise
            failed = newest  # a trainer that has a newer one may be removing it
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
    """A workdir, its run in this room, and its newest state; `runs/a@500` is the state of step 500.

    Raises:
      ConfigError: no run, or one without such a checkpoint.
    """
    folder, _, asked = path.rpartition("@") if STEP.search(path) else (path, "", "")
    workdir = absolute(folder)
    config = stored(workdir)
    run = Run(config, everything())
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints, leads=False)
    steps = checkpoints.steps()
    try:
        if not steps:
            raise ConfigError(f"{workdir} has no finished checkpoint yet: train first, with the same --workdir")
        step = int(asked or steps[-1])
        if step not in steps:
            raise ConfigError(f"{workdir} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}")
        return Opened(workdir, run, checkpoints.restore(step, run.abstract_state()))
    finally:
        checkpoints.close()
