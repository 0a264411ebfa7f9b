"""The opening of saved runs: a workdir's configuration and its checkpoints."""

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
"""The end of `runs/a@500`, which selects the checkpoint of step 500 instead of the newest one."""


class OpenedRun(NamedTuple):
    """A saved run, on the devices of this process.

    Attributes:
      workdir: Its workdir.
      run: The run.
      state: A saved state; `opt_state` is empty if only the network was restored.
    """

    workdir: epath.Path
    run: Run
    state: State


def list_members(path: str) -> list[str]:
    """Returns the workdirs in the folder of an ensemble, which are numbered from 1.

    Returns `[path]` if the path is itself a workdir, or holds no numbered folder.

    Raises:
      ConfigError: A member is missing.
    """
    root = make_absolute(path)
    if not root.is_dir() or (root / "experiment.json").exists():
        return [path]
    numbers = sorted(int(folder.name) for folder in root.iterdir() if folder.name.isdigit())
    if missing := sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers)):
        raise ConfigError(
            f"{path} has no member {missing[0]}, and has {numbers[-1]}: train it, or name the "
            "workdirs one by one"
        )
    return [str(root / str(number)) for number in numbers] or [path]


def follow_checkpoints(path: str, *, every: float) -> Iterator[OpenedRun]:
    """Yields the newest state of a run that another process trains, and each later one.

    Ends after the last step of the run. States come without that of the optimizer.

    Args:
      path: The workdir.
      every: The seconds between two checks for a new checkpoint.

    Raises:
      ConfigError: The workdir holds no run.
      CheckpointError: A checkpoint is damaged, and still the newest at the next check.
    """
    workdir = make_absolute(path)
    run = load_run(workdir)
    last, failed, is_waiting = -1, -1, False
    while last < run.steps:
        checkpoints = Checkpoints(
            workdir / "checkpoints", keep=run.config.keep_checkpoints, is_primary=False
        )
        newest, state = max(checkpoints.steps(), default=-1), None
        try:
            if newest > last:
                state = restore_without_optimizer(checkpoints, newest, run)
        except (OSError, CheckpointError):
            if newest == failed:
                raise
            failed = newest  # the trainer may be deleting it, because it has a newer one
        finally:
            checkpoints.close()
        if state is not None:
            last, is_waiting = newest, False
            yield OpenedRun(workdir, run, state)
            continue
        if not is_waiting:
            after = f", after step {last}" if last >= 0 else ""
            log_line(f"waiting for the next checkpoint of {path}{after}")
            is_waiting = True
        time.sleep(every)


def load_run(workdir: epath.Path) -> Run:
    """Returns the run that a workdir holds, on the devices of this process.

    Its data need not be present if the run recorded facts about them.

    Raises:
      ConfigError: There is no run, or its configuration cannot be read.
      DataError: The recorded facts about its data cannot be read.
    """
    return Run(read_experiment(workdir), all_devices_placement(), facts=read_data_facts(workdir))


def list_saved_steps(path: str) -> list[int]:
    """Returns the steps of the finished checkpoints of a run, the oldest first."""
    return Checkpoints(make_absolute(path) / "checkpoints", keep=1, is_primary=False).steps()


def find_best_step(path: str) -> int | None:
    """Returns the step of the kept checkpoint with the highest top-1; None if none is scored."""
    checkpoints = Checkpoints(make_absolute(path) / "checkpoints", keep=1, is_primary=False)
    ranked = checkpoints.rank_by_score(checkpoints.steps())
    return ranked[-1] if ranked else None


def restore_without_optimizer(checkpoints: Checkpoints, step: int, run: Run) -> State:
    """Returns a saved state with an empty `opt_state`, which is not read.

    Note: with RMSProp, momentum and averages the optimizer's state is half of the bytes.
    """
    target = run.abstract_state()
    unread = jax.tree.map(lambda leaf: SKIP_ARRAY, target.opt_state)
    state: State = checkpoints.restore(step, target.replace(opt_state=unread))
    return state.replace(opt_state=())


def open_run(path: str, *, with_optimizer: bool = False) -> OpenedRun:
    """Opens a saved run with its newest state, or with that of a step: `runs/a@500`.

    Args:
      path: The workdir, with or without a step.
      with_optimizer: Whether to restore the state of the optimizer too.

    Raises:
      ConfigError: There is no run, or it has no such checkpoint.
      CheckpointError: The checkpoint cannot be restored.
    """
    folder, step_text = path, ""
    if STEP_SUFFIX.search(path):
        folder, _, step_text = path.rpartition("@")
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
        step = int(step_text or steps[-1])
        if step not in steps:
            raise ConfigError(
                f"{workdir} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}"
            )
        if with_optimizer:
            state = checkpoints.restore(step, run.abstract_state())
        else:
            state = restore_without_optimizer(checkpoints, step, run)
        return OpenedRun(workdir, run, state)
    finally:
        checkpoints.close()
