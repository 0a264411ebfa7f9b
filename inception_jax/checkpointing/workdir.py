"""The folder that a run lives in: claimed by one configuration, and opened again from it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import replace

import fsspec.config
from etils import epath

from inception_jax.atomic_io import (
    StorageError,
    format_json,
    is_object_store,
    wrap_read_errors,
    write_atomically,
)
from inception_jax.config import ConfigError, Experiment, list_differences, read_experiment, to_json
from inception_jax.data.facts import DataFacts, list_changes
from inception_jax.data.source import DataError, Source
from inception_jax.errors import ExitCode, UserError


def make_absolute(path: str) -> epath.Path:
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


DATA_FILE = "data.json"
"""What was recorded of the data, in a workdir."""


def resolve_for_resume(workdir: epath.Path, config: Experiment) -> Experiment:
    """Returns `config` for the run that `workdir` holds, its fields as they were meant when that was begun; itself for a new run.

    Raises:
      ConfigError: it holds a run of another identity, or one that this version cannot go on with to the same bits.
    """
    if not (workdir / "experiment.json").exists():
        return config
    before = read_experiment(workdir)
    if before.format < config.format:
        data = replace(config.data, orientation="ignore") if before.format < 3 else config.data
        config = replace(config, format=before.format, data=data)
    if changed := list_differences(before, config):
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(
            f"{workdir} holds a run of another configuration:\n{lines}\nchoose another --workdir, or move that one away"
        )
    if before.format == 1 and before.seed >= 2**32:
        raise ConfigError(
            f"{workdir} holds a run of an earlier version with seed {before.seed}, of which 32 bits counted there, and all of them count "
            "now: it would not go on to the same bits; begin anew in another --workdir"
        )
    return config


def compare_data(
    workdir: epath.Path, now: DataFacts, *, accept: bool, source: Source | None = None
) -> list[str]:
    """Returns what has changed in the data since the run in `workdir` was begun, or that nothing was recorded of them then.

    Args:
      source: of training examples, which an earlier version may have read otherwise.

    Raises:
      ConfigError: something has, and it is not to be accepted.
      DataError: what was recorded cannot be read.
    """
    if not (workdir / "experiment.json").exists():
        return []
    if (before := read_data_facts(workdir)) is None:
        nested = getattr(source, "nested", 0)
        if nested:
            raise ConfigError(
                f"the run in {workdir} was begun by an earlier version, which did not read folders within that of a class, and {nested:,} "
                "of the training files are in such: move them away, or begin anew in another --workdir"
            )
        return ["its data were not recorded then, and are from now on"]
    changed = list_changes(before, now)
    if changed and not accept:
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(
            f"the data are not those that the run in {workdir} was begun with:\n{lines}\nbring those back, choose another --workdir, or go "
            "on with these: --data.changed accept"
        )
    return [f"the data changed: {line}" for line in changed]


def read_data_facts(workdir: epath.Path) -> DataFacts | None:
    """Returns what a run recorded of its data; None of one that was begun before that was done.

    Raises:
      DataError: it cannot be read.
    """
    file = workdir / DATA_FILE
    if not file.exists():
        return None
    with wrap_read_errors(
        file, DataError, "take it away, and `inception-jax train` writes it again"
    ):
        return DataFacts.from_json(json.loads(file.read_bytes()))


def claim_workdir(
    workdir: epath.Path,
    config: Experiment,
    facts: DataFacts | None = None,
    *,
    is_primary: bool = True,
) -> None:
    """Makes `workdir` this experiment's, and, in the process that `is_primary`, writes the resolved configuration into it.

    Args:
      facts: of its data, which are recorded too.

    Raises:
      ConfigError: it holds a run of another identity, which stays as it is.
      StorageError: it cannot be written.
    """
    config = resolve_for_resume(workdir, config)
    if not is_primary:
        return
    _make(workdir)
    write_atomically(workdir / "experiment.json", format_json(to_json(config), indent=2) + "\n")
    if facts is not None:
        write_atomically(workdir / DATA_FILE, format_json(facts.to_json(), indent=1) + "\n")


def _make(workdir: epath.Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the workdir {workdir} cannot be written ({error}): choose another --workdir"
        ) from error


class WorkdirLockedError(UserError):
    """Another process is training in a workdir."""

    exit_code = ExitCode.STOPPED


@contextlib.contextmanager
def lock_workdir(workdir: epath.Path) -> Iterator[None]:
    """Keeps `workdir`, where it is on a disk, to this process while the body runs, and makes it where it is not there.

    The system gives it free when the process ends.

    Raises:
      OccupiedError: another process has it.
      StorageError: it cannot be written.
    """
    if is_object_store(workdir):
        yield
        return
    _make(workdir)
    try:
        file = open(workdir / "lock", "a")  # noqa: SIM115
    except OSError as error:
        raise StorageError(
            f"the workdir {workdir} cannot be written ({error}): choose another --workdir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkdirLockedError(
                f"another process is training in {workdir}: wait for it, or choose another --workdir"
            ) from None
        yield
