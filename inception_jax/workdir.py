"""The folder that a run lives in: claimed by one configuration, and opened again from it."""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import fsspec.config
import jax
from etils import epath

from inception_jax.checkpoint import UNWANTED, CheckpointError, Checkpoints
from inception_jax.config import ConfigError, Experiment, differences, stored, to_json
from inception_jax.data.facts import DataFacts, changes
from inception_jax.data.source import DataError, Source
from inception_jax.errors import ExitCode, UserError
from inception_jax.experiment import Run
from inception_jax.files import StorageError, is_object, json_text, put, reading
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


DATA = "data.json"
"""What was recorded of the data, in a workdir."""


def resumed(workdir: epath.Path, config: Experiment) -> Experiment:
    """Returns `config` for the run that `workdir` holds, its fields as they were meant when that was begun; itself for a new run.

    Raises:
      ConfigError: it holds a run of another identity, or one that this version cannot go on with to the same bits.
    """
    if not (workdir / "experiment.json").exists():
        return config
    before = stored(workdir)
    if before.format < config.format:
        data = replace(config.data, orientation="ignore") if before.format < 3 else config.data
        config = replace(config, format=before.format, data=data)
    if changed := differences(before, config):
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(f"{workdir} holds a run of another configuration:\n{lines}\nchoose another --workdir, or move that one away")
    if before.format == 1 and before.seed >= 2**32:
        raise ConfigError(
            f"{workdir} holds a run of an earlier version with seed {before.seed}, of which 32 bits counted there, and all of them count "
            "now: it would not go on to the same bits; begin anew in another --workdir"
        )
    return config


def compare_data(workdir: epath.Path, now: DataFacts, *, accept: bool, source: Source | None = None) -> list[str]:
    """Returns what has changed in the data since the run in `workdir` was begun, or that nothing was recorded of them then.

    Args:
      source: of training examples, which an earlier version may have read otherwise.

    Raises:
      ConfigError: something has, and it is not to be accepted.
      DataError: what was recorded cannot be read.
    """
    if not (workdir / "experiment.json").exists():
        return []
    if (before := recorded(workdir)) is None:
        nested = getattr(source, "nested", 0)
        if nested:
            raise ConfigError(
                f"the run in {workdir} was begun by an earlier version, which did not read folders within that of a class, and {nested:,} "
                "of the training files are in such: move them away, or begin anew in another --workdir"
            )
        return ["its data were not recorded then, and are from now on"]
    changed = changes(before, now)
    if changed and not accept:
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(
            f"the data are not those that the run in {workdir} was begun with:\n{lines}\nbring those back, choose another --workdir, or go "
            "on with these: --data.changed accept"
        )
    return [f"the data changed: {line}" for line in changed]


def recorded(workdir: epath.Path) -> DataFacts | None:
    """Returns what a run recorded of its data; None of one that was begun before that was done.

    Raises:
      DataError: it cannot be read.
    """
    file = workdir / DATA
    if not file.exists():
        return None
    with reading(file, DataError, "take it away, and `inception-jax train` writes it again"):
        return DataFacts.from_json(json.loads(file.read_bytes()))


def claim(workdir: epath.Path, config: Experiment, facts: DataFacts | None = None, *, leads: bool = True) -> None:
    """Makes `workdir` this experiment's, and, in the process that `leads`, writes the resolved configuration into it.

    Args:
      facts: of its data, which are recorded too.

    Raises:
      ConfigError: it holds a run of another identity, which stays as it is.
      StorageError: it cannot be written.
    """
    config = resumed(workdir, config)
    if not leads:
        return
    _make(workdir)
    put(workdir / "experiment.json", json_text(to_json(config), indent=2) + "\n")
    if facts is not None:
        put(workdir / DATA, json_text(facts.to_json(), indent=1) + "\n")


def _make(workdir: epath.Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the workdir {workdir} cannot be written ({error}): choose another --workdir") from error


class OccupiedError(UserError):
    """Another process is training in a workdir."""

    exit_code = ExitCode.STOPPED


@contextlib.contextmanager
def occupied(workdir: epath.Path) -> Iterator[None]:
    """Keeps `workdir`, where it is on a disk, to this process while the body runs, and makes it where it is not there.

    The system gives it free when the process ends.

    Raises:
      OccupiedError: another process has it.
      StorageError: it cannot be written.
    """
    if is_object(workdir):
        yield
        return
    _make(workdir)
    try:
        file = open(workdir / "lock", "a")  # noqa: SIM115
    except OSError as error:
        raise StorageError(f"the workdir {workdir} cannot be written ({error}): choose another --workdir") from error
    with file:
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
    run = run_in(workdir)
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


def run_in(workdir: epath.Path) -> Run:
    """Returns the run that a workdir holds, in this room; with what it recorded of its data, these need not be here.

    Raises:
      ConfigError: there is none, or it cannot be read.
      DataError: what it recorded of its data cannot be read.
    """
    return Run(stored(workdir), everything(), facts=recorded(workdir))


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
    run = run_in(workdir)
    if run.config.old_meaning and run.placement.leads:
        say(f"{folder}: {run.config.old_meaning}")
    checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
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
