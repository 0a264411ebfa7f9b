"""Runs opened again from their workdirs."""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
from etils import epath

from inception_jax.checkpointing.checkpoints import SKIP_ARRAY, CheckpointError, Checkpoints
from inception_jax.checkpointing.workdir import make_absolute, read_data_facts
from inception_jax.config import ConfigError, read_experiment
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.monitoring.progress import log_line
from inception_jax.training.state import State

STEP_SUFFIX = re.compile(r"@\d+$")
"""Behind a workdir: not its newest checkpoint, but that of this step."""


class OpenedRun(NamedTuple):
    """A workdir, its run in this room, and a state of it; without that of the optimizer, where only the network is wanted."""

    workdir: epath.Path
    run: Run
    state: State


def list_members(path: str) -> list[str]:
    """The workdirs in the folder of an ensemble, whose names are numbers from 1; or the one workdir itself.

    Raises:
      ConfigError: a member is missing.
    """
    root = make_absolute(path)
    if not root.is_dir() or (root / "experiment.json").exists():
        return [path]
    numbers = sorted(int(folder.name) for folder in root.iterdir() if folder.name.isdigit())
    if missing := sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers)):
        raise ConfigError(
            f"{path} has no member {missing[0]}, and has {numbers[-1]}: train it, or name the workdirs one by one"
        )
    return [str(root / str(number)) for number in numbers] or [path]


def follow_checkpoints(path: str, *, every: float) -> Iterator[OpenedRun]:
    """The newest state of a run that is being made elsewhere, and each later one that is found, until the run's last.

    Args:
      every: seconds between two looks.

    Raises:
      ConfigError: no run.
      CheckpointError: a checkpoint that is damaged, and still there at the next look.
    """
    workdir = make_absolute(path)
    run = load_run(workdir)
    reached, failed, waits = -1, -1, False
    while reached < run.steps:
        checkpoints = Checkpoints(
            workdir / "checkpoints", keep=run.config.keep_checkpoints, is_primary=False
        )
        newest, state = max(checkpoints.steps(), default=-1), None
        try:
            if newest > reached:
                state = restore_without_optimizer(checkpoints, newest, run)
        except (OSError, CheckpointError):
            if newest == failed:
                raise
            failed = newest  # a trainer that has a newer one may be removing it
        finally:
            checkpoints.close()
        if state is not None:
            reached, waits = newest, False
            yield OpenedRun(workdir, run, state)
            continue
        if not waits:
            log_line(
                f"waiting for the next checkpoint of {path}"
                + (f", after step {reached}" if reached >= 0 else "")
            )
            waits = True
        time.sleep(every)


def load_run(workdir: epath.Path) -> Run:
    """Returns the run that a workdir holds, in this room; with what it recorded of its data, these need not be here.

    Raises:
      ConfigError: there is none, or it cannot be read.
      DataError: what it recorded of its data cannot be read.
    """
    return Run(read_experiment(workdir), all_devices_placement(), facts=read_data_facts(workdir))


def list_saved_steps(path: str) -> list[int]:
    """The steps of the finished checkpoints of a run, the oldest first."""
    return Checkpoints(make_absolute(path) / "checkpoints", keep=1, is_primary=False).steps()


def restore_without_optimizer(checkpoints: Checkpoints, step: int, run: Run) -> State:
    """A saved state without that of its optimizer, which is not read: with RMSProp, momentum and averages it is half of the bytes."""
    target = run.abstract_state()
    unread = jax.tree.map(lambda leaf: SKIP_ARRAY, target.opt_state)
    state: State = checkpoints.restore(step, target.replace(opt_state=unread))
    return state.replace(opt_state=())


def open_run(path: str, *, with_optimizer: bool = False) -> OpenedRun:
    """A workdir, its run in this room, and its newest state; `runs/a@500` is the state of step 500.

    Args:
      whole: with the state of the optimizer.

    Raises:
      ConfigError: no run, or one without such a checkpoint.
    """
    folder, _, asked = path.rpartition("@") if STEP_SUFFIX.search(path) else (path, "", "")
    workdir = make_absolute(folder)
    run = load_run(workdir)
    if run.config.old_format_note and run.placement.is_primary:
        log_line(f"{folder}: {run.config.old_format_note}")
    checkpoints = Checkpoints(
        workdir / "checkpoints", keep=run.config.keep_checkpoints, is_primary=False
    )
    steps = checkpoints.steps()
    try:
        if not steps:
            raise ConfigError(
                f"{workdir} has no finished checkpoint yet: train first, with the same --workdir"
            )
        step = int(asked or steps[-1])
        if step not in steps:
            raise ConfigError(
                f"{workdir} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}"
            )
        state = (
            checkpoints.restore(step, run.abstract_state())
            if with_optimizer
            else restore_without_optimizer(checkpoints, step, run)
        )
        return OpenedRun(workdir, run, state)
    finally:
        checkpoints.close()
