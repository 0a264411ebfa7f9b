"""The workdir of a run: claimed by one configuration, and locked by one process at a time."""

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

DATA_FILE = "data.json"
"""The file in a workdir with the recorded facts about its data."""


def make_absolute(path: str) -> epath.Path:
    """Returns an absolute path, as Orbax requires; a path with a scheme (gs://...) is one already.

    Raises:
      ConfigError: No installed package reads that scheme.
    """
    scheme, separator, _ = path.partition("://")
    if not separator:
        return epath.Path(os.path.abspath(path))
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    # Other machines write there too. A cached listing, which Google's never expires, would hide it.
    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    return epath.Path(path)


def resolve_for_resume(workdir: epath.Path, config: Experiment) -> Experiment:
    """Returns `config` with its fields as they were meant when the run in `workdir` began.

    Returns `config` itself for a new run.

    Raises:
      ConfigError: The workdir holds a run of another configuration, or one that this version cannot
        go on with to the same bits.
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
            f"{workdir} holds a run of another configuration:\n{lines}\n"
            "choose another --workdir, or move that one away"
        )
    if before.format == 1 and before.seed >= 2**32:
        raise ConfigError(
            f"{workdir} holds a run of an earlier version with seed {before.seed}, of which that "
            "version used 32 bits and this one uses all: it would not go on to the same bits; "
            "begin anew in another --workdir"
        )
    return config


def compare_data(
    workdir: epath.Path, now: DataFacts, *, accept: bool, source: Source | None = None
) -> list[str]:
    """Returns a line for each change in the data since the run in `workdir` began.

    A run of an earlier version recorded nothing about its data: a single line reports that.

    Args:
      accept: Whether changed data are accepted.
      source: The training examples, which an earlier version may have read differently.

    Raises:
      ConfigError: The data changed, and `accept` is false.
      DataError: The recorded facts cannot be read.
    """
    if not (workdir / "experiment.json").exists():
        return []
    if (before := read_data_facts(workdir)) is None:
        if nested := getattr(source, "nested", 0):
            raise ConfigError(
                f"the run in {workdir} was begun by an earlier version, which did not read folders "
                f"within the folder of a class; {nested:,} of the training files are in such "
                "folders: move them away, or begin anew in another --workdir"
            )
        return ["its data were not recorded then, and are from now on"]
    changed = list_changes(before, now)
    if changed and not accept:
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(
            f"the data are not those that the run in {workdir} was begun with:\n{lines}\nrestore "
            "those, choose another --workdir, or go on with these: --data.changed accept"
        )
    return [f"the data changed: {line}" for line in changed]


def read_data_facts(workdir: epath.Path) -> DataFacts | None:
    """Returns the facts that a run recorded about its data; None for a run of an earlier version.

    Raises:
      DataError: The file cannot be read.
    """
    file = workdir / DATA_FILE
    if not file.exists():
        return None
    with wrap_read_errors(file, DataError, "remove it, and `inception-jax train` writes it again"):
        return DataFacts.from_json(json.loads(file.read_bytes()))


def claim_workdir(
    workdir: epath.Path,
    config: Experiment,
    facts: DataFacts | None = None,
    *,
    is_primary: bool = True,
) -> None:
    """Creates `workdir` for this experiment, and writes the resolved configuration into it.

    Args:
      facts: Facts about its data, to record too.
      is_primary: Whether this process writes; any other only checks the configuration.

    Raises:
      ConfigError: The workdir holds a run of another configuration, which stays unchanged.
      StorageError: The workdir cannot be written.
    """
    config = resolve_for_resume(workdir, config)
    if not is_primary:
        return
    create_workdir(workdir)
    write_atomically(workdir / "experiment.json", format_json(to_json(config), indent=2) + "\n")
    if facts is not None:
        write_atomically(workdir / DATA_FILE, format_json(facts.to_json(), indent=1) + "\n")


def create_workdir(workdir: epath.Path) -> None:
    """Makes the folder of a run.

    Raises:
      StorageError: It cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _make_storage_error(workdir, error) from error


def _make_storage_error(workdir: epath.Path, error: OSError) -> StorageError:
    return StorageError(
        f"the workdir {workdir} cannot be written ({error}): choose another --workdir"
    )


class WorkdirLockedError(UserError):
    """A workdir in which another process is training."""

    exit_code = ExitCode.STOPPED


@contextlib.contextmanager
def lock_workdir(workdir: epath.Path) -> Iterator[None]:
    """Locks `workdir` for this process while the body runs, and creates it if it does not exist.

    The operating system releases the lock when the process ends. A workdir in an object store is
    not locked.

    Raises:
      WorkdirLockedError: Another process holds the lock.
      StorageError: The workdir cannot be written.
    """
    if is_object_store(workdir):
        yield
        return
    create_workdir(workdir)
    try:
        file = open(workdir / "lock", "a")  # noqa: SIM115
    except OSError as error:
        raise _make_storage_error(workdir, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkdirLockedError(
                f"another process is training in {workdir}: "
                "wait for it, or choose another --workdir"
            ) from None
        yield
