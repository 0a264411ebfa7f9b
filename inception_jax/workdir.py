"""The folder that a run lives in: claimed by one configuration, and opened again from it."""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import fsspec.config
import jax
from etils import epath

from inception_jax.checkpoint import UNWANTED, CheckpointError, Checkpoints
from inception_jax.config import ConfigError, Experiment, differences, stored, to_json
from inception_jax.experiment import Run
from inception_jax.files import StorageError, is_object, put
from inception_jax.logbook import say
from inception_jax.mesh import everything
from inception_jax.training.state import State


def absolute(path: str) -> epath.Path:
    """Orbax wants absolute paths; one with a scheme (gs://...) is that already.

    Raises:
      ConfigError: a scheme that nothing here can read.
    """
    scheme, found, _ = path.partition("://")
    if not found:
        return epath.Path(os.path.abspath(path))
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    # Another machine writes there too: a listing that is remembered, as Google's is for good, would never show it.
    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    return epath.Path(path)


def claim(workdir: epath.Path, config: Experiment, *, leads: bool = True) -> None:
    """Makes `workdir` this experiment's, and, in the process that `leads`, writes the resolved configuration into it.

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
    if not leads:
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        put(file, json.dumps(to_json(config), indent=2) + "\n")
    except OSError as error:
        raise StorageError(f"the workdir {workdir} cannot be written ({error}): choose another --workdir") from error


class OccupiedError(Exception):
    """Another process is training in a workdir."""

    exit_code = 75


@contextlib.contextmanager
def occupied(workdir: epath.Path) -> Iterator[None]:
    """Keeps `workdir`, where it is on a disk, to this process while the body runs. The system gives it free when the process ends.

    Raises:
      OccupiedError: another process has it.
    """
    if is_object(workdir):
        yield
        return
    with open(workdir / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OccupiedError(f"another process is training in {workdir}: wait for it, or choose another --workdir") from None
        yield


STEP = re.compile(r"@\d+$")
"""Behind a workdir: not its newest checkpoint, but that of this step."""


class Opened(NamedTuple):
    """A workdir, its run in this room, and a state of it; without that of the optimizer, where only the network is wanted."""

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
    reached, failed, waits = -1, -1, False
    while reached < run.steps:
        checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
        newest, state = max(checkpoints.steps(), default=-1), None
        try:
            if newest > reached:
                state = restored(checkpoints, newest, run)
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


def saved(path: str) -> list[int]:
    """The steps of the finished checkpoints of a run, the oldest first."""
    return Checkpoints(absolute(path) / "checkpoints", keep=1, leads=False).steps()


def restored(checkpoints: Checkpoints, step: int, run: Run) -> State:
    """A saved state without that of its optimizer, which is not read: with RMSProp, momentum and averages it is half of the bytes."""
    target = run.abstract_state()
    unread = jax.tree.map(lambda leaf: UNWANTED, target.opt_state)
    state: State = checkpoints.restore(step, target.replace(opt_state=unread))
    return state.replace(opt_state=())


def opened(path: str, *, whole: bool = False) -> Opened:
    """A workdir, its run in this room, and its newest state; `runs/a@500` is the state of step 500.

    Args:
      whole: with the state of the optimizer.

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
        state = checkpoints.restore(step, run.abstract_state()) if whole else restored(checkpoints, step, run)
        return Opened(workdir, run, state)
    finally:
        checkpoints.close()
