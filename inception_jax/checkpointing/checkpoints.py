"""Checkpoints: a thin layer over Orbax that adds SHA-256 checks and atomic completion.

A checkpoint is finished when its manifest, `checkpoints/<step>.sha256.json`, exists. The manifest
is written atomically after Orbax's own commit. It holds the SHA-256 of every file, the metadata of
the step and the SHA-256 of its own content. A step without a manifest is unfinished and is written
again. Orbax keeps no checksum of array data: without the manifest a flipped byte would be restored
silently. Old checkpoints are deleted after that, each with its manifest first, so that a kill at
any moment leaves as many finished checkpoints as before.

Small arrays are saved packed, as one vector of bytes for each field of the state; Orbax's custom
metadata holds their layout.
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from inception_jax.atomic_io import StorageError, write_atomically
from inception_jax.checkpointing.packing import (
    PackedLayout,
    flatten_with_names,
    get_field,
    pack_arrays,
    unpack_arrays,
)
from inception_jax.errors import ExitCode, UserError
from inception_jax.training.state import STATE_FORMAT_VERSION

SKIP_ARRAY = ocp.PLACEHOLDER
"""Replaces an array of a target that `Checkpoints.restore` must not read."""
MANIFEST_SUFFIX = ".sha256.json"


class CheckpointMetadata(NamedTuple):
    """The facts about a checkpoint that its manifest stores.

    Attributes:
      sums: The summed metrics, by name, of the steps since the last row of metrics; empty unless
        the run was stopped between two rows.
      score: The held-out top-1, by which the best checkpoints are kept; None if not evaluated.
      is_unscored: Whether an evaluation was due and was interrupted.
      is_complete: Whether this is the end of a run, evaluated and with all data of its report.
    """

    sums: Mapping[str, float] = MappingProxyType({})
    score: float | None = None
    is_unscored: bool = False
    is_complete: bool = False

    def to_json(self) -> dict[str, float]:
        """Returns the metadata as numbers only, the format of manifests since the first version."""
        flags = {"unscored": self.is_unscored, "complete": self.is_complete}
        return {
            **self.sums,
            **({} if self.score is None else {"score": self.score}),
            **{name: 1.0 for name, flag in flags.items() if flag},
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, float]) -> "CheckpointMetadata":
        """Returns the metadata that `to_json` wrote.

        Sums without `objective` are left out: they are of an earlier version, whose `loss` was the
        objective.
        """
        own = ("score", "unscored", "complete")
        sums = {name: value for name, value in fields.items() if name not in own}
        return cls(
            sums if "objective" in sums else {},
            fields.get("score"),
            "unscored" in fields,
            "complete" in fields,
        )


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be restored; the message names it and the reason."""

    exit_code = ExitCode.DATA


class DamagedError(CheckpointError):
    """A checkpoint whose files are not as they were written."""


class Checkpoints:
    """The checkpoints of one run in `directory`.

    Args:
      keep: The number of newest checkpoints to keep.
      keep_best: The number of checkpoints with the highest scores to keep in addition.
      is_primary: Whether this process writes manifests and deletes old checkpoints.
    """

    def __init__(
        self, directory: epath.Path, *, keep: int, keep_best: int = 0, is_primary: bool = True
    ):
        self._directory, self._is_primary = epath.Path(directory), is_primary
        self._keep, self._keep_best = keep, keep_best
        self._pending: tuple[int, Future[None]] | None = None
        self._verified_step: int | None = None
        self.last_saved_step: int | None = None
        """The step of the last `save`; None before the first."""
        self._has_failed = False
        # A thread of its own finishes a checkpoint as soon as its files are written.
        self._executor = ThreadPoolExecutor(1)

    @cached_property
    def _orbax(self) -> ocp.training.Checkpointer:
        """Returns the Orbax checkpointer, created on first use.

        It lists the directory only once, so damaged steps must be set aside before.
        """
        filter_orbax_logs()
        # Orbax's own policies delete old steps before the new one has its manifest.
        return ocp.training.Checkpointer(
            self._directory, preservation_policy=ocp.training.preservation_policies.PreserveAll()
        )

    def _list_names(self) -> list[str]:
        return [path.name for path in self._directory.iterdir()] if self._directory.exists() else []

    def steps(self) -> list[int]:
        """Returns the finished steps, the oldest first."""
        return _select_finished(self._list_names())

    def save(
        self, step: int, state: Any, *, metadata: CheckpointMetadata = CheckpointMetadata()
    ) -> None:
        """Starts to save `state` in the background.

        The next `save`, `update_metadata` or `close` waits for the end and raises its error.

        Args:
          metadata: Facts to keep with the state, numbers to the last bit.

        Raises:
          StorageError: This save could not start, or the one before it failed.
        """
        self._wait_for_save()
        self._verified_step = None
        arrays, joined = pack_arrays(state)
        layout = {"format_version": STATE_FORMAT_VERSION, "joined": joined}
        try:
            saving = self._orbax.save_checkpointables_async(
                step,
                {"state": arrays},
                custom_metadata=layout,
                force=True,
                overwrite=step not in self.steps(),
            )
        except OSError as error:
            raise self._make_storage_error(step, error) from error
        self.last_saved_step = step
        self._pending = step, self._executor.submit(self._finalize, step, saving, metadata)

    def read_metadata(self, step: int) -> CheckpointMetadata:
        """Returns the metadata of a saved step.

        Raises:
          DamagedError: The manifest cannot be read.
        """
        return CheckpointMetadata.from_json(self._read_manifest(step)["note"])

    def update_metadata(self, step: int, metadata: CheckpointMetadata) -> None:
        """Replaces the metadata of a saved step, after waiting for a save under way.

        Raises:
          StorageError: The step was not saved, or the metadata cannot be written.
        """
        if self._is_primary:
            self._wait_for_save()
            self._write_manifest(step, self._read_manifest(step)["files"], metadata)
            self._delete_old()

    def raise_if_failed(self) -> None:
        """Raises the error of a save that has failed; does not wait for one under way.

        Raises:
          StorageError: The save failed.
        """
        if self._pending is not None and self._pending[1].done():
            self._wait_for_save()

    def _finalize(self, step: int, saving: Any, metadata: CheckpointMetadata) -> None:
        saving.result()
        if self._is_primary:
            self._write_manifest(step, hash_files(self._directory / str(step)), metadata)
            self._delete_old()

    def _delete_old(self) -> None:
        """Deletes the steps that are not kept, unfinished ones that a kill left among them.

        A step that cannot be deleted is logged, and tried again after the next save.
        """
        names = self._list_names()
        finished = _select_finished(names)
        best = self.rank_by_score(finished)[-self._keep_best :] if self._keep_best else []
        kept = {*finished[-self._keep :], *best}
        for step in parse_steps(names):
            if step >= finished[-1] or step in kept:
                continue
            try:
                with suppress(FileNotFoundError):
                    (self._directory / f"{step}{MANIFEST_SUFFIX}").unlink()
                (self._directory / str(step)).rmtree()
            except OSError as error:
                reason = f"{error}; it is tried again after the next save"
                logging.getLogger(__name__).warning(
                    "checkpoint %d in %s cannot be deleted: %s", step, self._directory, reason
                )

    def rank_by_score(self, finished: Iterable[int]) -> list[int]:
        """Returns the steps that have scores, the highest last; of equal scores the newest."""
        scores: dict[int, float] = {}
        for step in finished:
            with suppress(DamagedError):  # raised where the step is to be used
                if (score := self.read_metadata(step).score) is not None:
                    scores[step] = score
        return sorted(scores, key=lambda step: (scores[step], step))

    def _wait_for_save(self) -> None:
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except Exception as error:
            self._has_failed = True
            if isinstance(error, StorageError):
                raise
            raise self._make_storage_error(step, error) from error

    def _make_storage_error(self, step: int, error: Exception) -> StorageError:
        self._has_failed = True
        cause = find_root_cause(error)
        return StorageError(f"checkpoint {step} was not written to {self._directory}: {cause}")

    def _write_manifest(
        self, step: int, files: Mapping[str, str], metadata: CheckpointMetadata
    ) -> None:
        content = {"files": dict(files), "note": metadata.to_json()}
        manifest = {**content, "sha256": hash_json(content)}
        write_atomically(
            self._directory / f"{step}{MANIFEST_SUFFIX}",
            json.dumps(manifest, indent=1, allow_nan=False),
        )

    def _read_manifest(self, step: int) -> dict[str, Any]:
        file = self._directory / f"{step}{MANIFEST_SUFFIX}"
        prefix = f"checkpoint {step} in {self._directory} is damaged: {file.name}"
        try:
            manifest = json.loads(file.read_bytes())
            content = {"files": dict(manifest["files"]), "note": dict(manifest["note"])}
            is_intact = manifest["sha256"] == hash_json(content) and all(
                isinstance(value, int | float) for value in content["note"].values()
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"{prefix} cannot be read ({error!r})") from error
        if not is_intact:
            raise DamagedError(f"{prefix} changed since it was saved")
        return content

    def verify(self, step: int) -> None:
        """Compares the files of a step with the hashes in its manifest.

        Files that the manifest does not name, such as those of a file manager, are ignored.

        Raises:
          DamagedError: A file was changed, or is missing.
          OSError: A file cannot be read, which leaves open whether it is intact.
        """
        files = self._read_manifest(step)["files"]
        hashes = hash_files(self._directory / str(step), only=files)
        if changed := sorted(name for name in files if files[name] != hashes.get(name)):
            raise DamagedError(
                f"checkpoint {step} in {self._directory} is damaged: "
                f"{', '.join(changed[:3])} changed since it was saved"
            )
        self._verified_step = step

    def latest_intact_step(
        self, log_line: Callable[[str], None], *, from_scratch: bool = False
    ) -> int | None:
        """Returns the newest finished step whose files are intact; None if there is none.

        Newer steps that are damaged are renamed, and each is reported by `log_line`.

        Args:
          log_line: Prints one line.
          from_scratch: Whether to rename damaged steps also if no intact one is left.

        Raises:
          DamagedError: There are finished steps and none is intact; they are left as they are.
          OSError: A file cannot be read, which leaves open whether it is intact.
        """
        names = self._list_names()
        finished = _select_finished(names)
        for step in sorted({*parse_steps(names)} - {*finished}):
            log_line(f"checkpoint {step} in {self._directory} was not finished, and is not used")
        damaged, intact = dict[int, DamagedError](), None
        for step in reversed(finished):
            try:
                self.verify(step)
                intact = step
                break
            except DamagedError as error:
                damaged[step] = error
        if damaged and intact is None and not from_scratch:
            errors = "\n".join(map(str, damaged.values()))
            raise DamagedError(
                f"{errors}\nno checkpoint is left to go on from: restore one from a copy, "
                "or start again with --from-scratch"
            )
        for step, damage in damaged.items():
            log_line(f"{damage}; it is kept as {self._set_aside(step)}, and not used")
        return intact

    def _set_aside(self, step: int) -> str:
        """Renames a step, its manifest first, and returns the new name."""
        taken = set(self._list_names())
        names = (f"{step}.damaged{f'.{i}' if i else ''}" for i in range(len(taken) + 1))
        name = next(name for name in names if name not in taken)
        with suppress(FileNotFoundError):
            (self._directory / f"{step}{MANIFEST_SUFFIX}").rename(self._directory / f"{name}.json")
        (self._directory / str(step)).rename(self._directory / name)
        return name

    def restore(self, step: int, target: Any) -> Any:
        """Returns the state saved at `step`.

        Args:
          target: An abstract state with the shapes, dtypes and shardings to restore. Its leaves
            that are `SKIP_ARRAY` are not read, and stay `SKIP_ARRAY` in the result.

        Raises:
          CheckpointError: A file changed since it was written, or the saved state has other shapes,
            dtypes or names.
        """
        if step != self._verified_step:
            self.verify(step)
        try:
            return self._read(step, target)
        except CheckpointError:
            raise
        except Exception as error:
            cause = find_root_cause(error)
            raise CheckpointError(
                f"checkpoint {step} in {self._directory} cannot be read: {cause}"
            ) from error

    def _read(self, step: int, target: Any) -> Any:
        stored = self._orbax.checkpointables_metadata(step)
        saved, metadata = stored.metadata["state"], stored.custom_metadata or {}
        version = metadata.get("format_version")
        if version != STATE_FORMAT_VERSION:
            raise CheckpointError(
                f"checkpoint {step} has format {version}, this version reads {STATE_FORMAT_VERSION}"
            )
        joined, targets = metadata["joined"], dict(flatten_with_names(target))
        self._check_signatures(step, format_signatures(saved, joined), targets)
        wanted = {name for name, leaf in targets.items() if leaf is not SKIP_ARRAY}
        to_read = wanted | {get_field(name) for name in wanted}
        request = {
            name: (saved if name in joined else targets)[name] if name in to_read else SKIP_ARRAY
            for name in saved
        }
        loaded = self._orbax.load_checkpointables(step, {"state": request})["state"]
        loaded = {name: leaf for name, leaf in loaded.items() if request[name] is not SKIP_ARRAY}
        arrays = unpack_arrays(loaded, joined)
        placed = [
            place_array(arrays[name], leaf) if name in wanted else SKIP_ARRAY
            for name, leaf in targets.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(target), placed)

    def _check_signatures(
        self, step: int, saved: Mapping[str, str], targets: Mapping[str, Any]
    ) -> None:
        """Raises `CheckpointError` where a shape, dtype or name differs from its target.

        Orbax reports a wrong shape as "incompatible handler", and converts dtypes silently.
        """
        wanted = {
            name: "unwanted" if leaf is SKIP_ARRAY else format_signature(leaf.shape, leaf.dtype)
            for name, leaf in targets.items()
        }
        lines = [
            f"  {name}: saved {saved.get(name, 'nothing')}, wanted {wanted.get(name, 'nothing')}"
            for name in sorted(saved.keys() | wanted.keys())
            if saved.get(name) != wanted.get(name)
            and not (name in saved and wanted.get(name) == "unwanted")
        ]
        if lines:
            head = f"checkpoint {step} in {self._directory} is of another network or optimizer:"
            more = [f"  and {len(lines) - 8} more"] if len(lines) > 8 else []
            raise CheckpointError("\n".join([head, *lines[:8], *more]))

    def close(self) -> None:
        """Waits for the save under way, and closes Orbax.

        Raises:
          StorageError: The save failed.
        """
        try:
            self._wait_for_save()
        finally:
            self._executor.shutdown()
            if "_orbax" in self.__dict__:
                try:
                    self._orbax.close()
                except Exception:
                    # After a failed save Orbax raises the same failure again, without the step.
                    if not self._has_failed:
                        raise


@cache
def filter_orbax_logs() -> None:
    """Suppresses Orbax's log lines: `Checkpoints` reports failed saves itself.

    Orbax logs a dozen lines for each save, and a thousand for a failed one, with a traceback from
    TensorStore for every cancelled write.
    """
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    previous_hook = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous_hook(unraisable)

    sys.unraisablehook = hook


def parse_steps(names: Iterable[str]) -> list[int]:
    """Returns the steps among names of files, the lowest first."""
    return sorted(int(name) for name in names if name.isdecimal())


def _select_finished(names: Sequence[str]) -> list[int]:
    """Returns the steps among names of files that have a manifest, the lowest first."""
    present = set(names)
    return [step for step in parse_steps(names) if f"{step}{MANIFEST_SUFFIX}" in present]


def format_signatures(stored: Mapping[str, Any], joined: PackedLayout) -> dict[str, str]:
    """Returns the shape and dtype of each array of a checkpoint: name -> `(3, 4) float32`."""
    separate = {
        name: format_signature(leaf.shape, leaf.dtype)
        for name, leaf in stored.items()
        if name not in joined
    }
    packed = {
        name: format_signature(shape, dtype)
        for entries in joined.values()
        for name, shape, dtype in entries
    }
    return separate | packed


def format_signature(shape: Sequence[int], dtype: Any) -> str:
    """Returns a shape and a dtype as text: `(3, 4) float32`."""
    return f"{tuple(shape)} {jax.numpy.dtype(dtype)}"


def place_array(value: Any, target: jax.ShapeDtypeStruct) -> jax.Array:
    """Returns `value` in the sharding of `target`.

    A `jax.Array` is returned as it is: Orbax has read it into that sharding.
    """
    if isinstance(value, jax.Array):
        return value
    return jax.make_array_from_callback(target.shape, target.sharding, lambda index: value[index])


def hash_files(
    directory: epath.Path, *, only: Container[str] | None = None, under: str = ""
) -> dict[str, str]:
    """Returns the SHA-256 of every file below `directory`, by name.

    Links are not followed; they get the text "a link" for a hash. Names that begin with a dot are
    left out: Orbax writes none, file managers do (`.DS_Store`).

    Args:
      only: The names to hash; default: all.
      under: The prefix of the names, for recursion.
    """
    hashes: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        name = f"{under}{path.name}"
        if path.name.startswith("."):
            continue
        if os.path.islink(path):
            hashes[name] = "a link"
        elif path.is_dir():
            hashes |= hash_files(path, only=only, under=f"{name}/")
        elif only is None or name in only:
            with path.open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def hash_json(content: Any) -> str:
    """Returns the SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_root_cause(error: BaseException) -> BaseException:
    """Returns the first error of a chain; Orbax wraps the cause of a failure in several others."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
