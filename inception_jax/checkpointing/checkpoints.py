"""Checkpoints: Orbax behind one thin face, with the checks that it lacks.

A checkpoint exists when its manifest does. After Orbax's own commit the SHA-256 of every file goes to
`checkpoints/<step>.sha256.json`, in one go, with the numbers noted of the step and the SHA-256 of itself; without it a step is
unfinished and is written again. Orbax keeps no checksum of array data: a flipped byte would restore silently. What is not kept is
deleted after that, and the manifest first: a kill at any moment leaves as many checkpoints as there were.

Small arrays are saved joined, a vector of bytes for each field; which are in it is in the checkpoint's own metadata.
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
    get_field,
    named_arrays,
    pack_arrays,
    unpack_arrays,
)
from inception_jax.errors import ExitCode, UserError
from inception_jax.training.state import FORMAT_VERSION

SKIP_ARRAY = ocp.PLACEHOLDER
"""In the place of an array that is not to be read."""
MANIFEST_SUFFIX = ".sha256.json"


class CheckpointMetadata(NamedTuple):
    """Holds what is kept with a state, in its manifest.

    Attributes:
      sums: of the stretch of steps in whose middle the run was stopped, by name.
      score: the held-out top-1, by which the best are kept; None where it was not evaluated.
      is_unscored: whether an evaluation was due, and was broken off.
      is_complete: whether this is the end of a run, scored and with all that its report is drawn from.
    """

    sums: Mapping[str, float] = MappingProxyType({})
    score: float | None = None
    is_unscored: bool = False
    is_complete: bool = False

    def to_json(self) -> dict[str, float]:
        """Returns numbers alone, the form that manifests have had from the first."""
        flags = {"unscored": self.is_unscored, "complete": self.is_complete}
        return {
            **self.sums,
            **({} if self.score is None else {"score": self.score}),
            **{name: 1.0 for name, flag in flags.items() if flag},
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, float]) -> "CheckpointMetadata":
        """Returns the metadata that `to_json` wrote. Sums of before both were kept, whose `loss` was the objective, are left out."""
        sums = {
            name: value
            for name, value in fields.items()
            if name not in ("score", "unscored", "complete")
        }
        return cls(
            sums if "objective" in sums else {},
            fields.get("score"),
            "unscored" in fields,
            "complete" in fields,
        )


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be restored; the message says which and why."""

    exit_code = ExitCode.DATA


class DamagedError(CheckpointError):
    """A checkpoint whose files are not as they were written."""


class Checkpoints:
    """The checkpoints of one run, under `directory`: the newest `keep` are kept, and of all the `keep_best` with the highest scores."""

    def __init__(
        self, directory: epath.Path, *, keep: int, keep_best: int = 0, is_primary: bool = True
    ):
        self._directory, self._leads, self._keep, self._keep_best = (
            epath.Path(directory),
            is_primary,
            keep,
            keep_best,
        )
        self._pending: tuple[int, Future[None]] | None = None
        self._intact: int | None = None  # whose files were found as they were written
        self.last: int | None = None
        """The step that was saved last."""
        self._failed = False
        self._sealer = ThreadPoolExecutor(
            1
        )  # so that a checkpoint is there for others as soon as it is whole

    @cached_property
    def _orbax(self) -> ocp.training.Checkpointer:
        """Made when it is needed: it lists the directory once, and what is damaged is set aside before."""
        silence_orbax()
        # Its own policies delete old steps before the new one has its manifest.
        return ocp.training.Checkpointer(
            self._directory, preservation_policy=ocp.training.preservation_policies.PreserveAll()
        )

    def _names(self) -> list[str]:
        return [path.name for path in self._directory.iterdir()] if self._directory.exists() else []

    def steps(self) -> list[int]:
        """Finished steps, the oldest first."""
        return self._finished(self._names())

    def _finished(self, names: list[str]) -> list[int]:
        there = set(names)
        return [step for step in parse_steps(names) if f"{step}{MANIFEST_SUFFIX}" in there]

    def save(
        self, step: int, state: Any, *, metadata: CheckpointMetadata = CheckpointMetadata()
    ) -> None:
        """Begins to save; the next `save`, and `close`, wait for it, and tell what went wrong with it.

        Args:
          metadata: is kept with the state, its numbers to the last bit.

        Raises:
          StorageError: this save could not begin, or the one before it failed.
        """
        self._finalize()
        self._intact = None
        arrays, joined = pack_arrays(state)
        layout = {"format_version": FORMAT_VERSION, "joined": joined}
        try:
            saving = self._orbax.save_checkpointables_async(
                step,
                {"state": arrays},
                custom_metadata=layout,
                force=True,
                overwrite=step not in self.steps(),
            )
        except OSError as error:
            self._failed = True
            raise StorageError(
                f"checkpoint {step} was not written to {self._directory}: {find_root_cause(error)}"
            ) from error
        self.last, self._pending = (
            step,
            (step, self._sealer.submit(self._complete, step, saving, metadata)),
        )

    def read_metadata(self, step: int) -> CheckpointMetadata:
        """Returns what was saved with the state of `step`.

        Raises:
          DamagedError: its manifest cannot be read.
        """
        return CheckpointMetadata.from_json(self._manifest(step)["metadata"])

    def update_metadata(self, step: int, metadata: CheckpointMetadata) -> None:
        """Puts another metadata in the place of that of a saved step; waits where it is still being saved.

        Raises:
          StorageError: it was not saved, or the metadata cannot be written.
        """
        if self._leads:
            self._finalize()
            self._write_manifest(step, self._manifest(step)["files"], metadata)
            self._delete_old()

    def raise_if_failed(self) -> None:
        """Tells of a save that has failed; costs nothing while one is under way.

        Raises:
          StorageError: it failed.
        """
        if self._pending is not None and self._pending[1].done():
            self._finalize()

    def _complete(self, step: int, saving: Any, metadata: CheckpointMetadata) -> None:
        saving.result()
        if self._leads:
            self._write_manifest(step, hash_files(self._directory / str(step)), metadata)
            self._delete_old()

    def _delete_old(self) -> None:
        """Deletes what is not kept. What cannot be deleted is told of, and tried again after the next save."""
        names = self._names()
        finished = self._finished(names)
        scores: dict[int, float] = {}
        for step in finished if self._keep_best else []:
            with suppress(DamagedError):  # it is told of where it is to be used
                if (score := self.read_metadata(step).score) is not None:
                    scores[step] = score
        best = sorted(scores, key=lambda step: (scores[step], step))
        kept = {*finished[-self._keep :], *(best[-self._keep_best :] if self._keep_best else [])}
        for step in parse_steps(names):
            if (
                step < finished[-1] and step not in kept
            ):  # not finished ones among them, which a kill left
                try:
                    with suppress(FileNotFoundError):
                        (self._directory / f"{step}{MANIFEST_SUFFIX}").unlink()
                    (self._directory / str(step)).rmtree()
                except OSError as error:
                    why = f"{error}; it is tried again after the next save"
                    logging.getLogger(__name__).warning(
                        "checkpoint %d in %s cannot be deleted: %s", step, self._directory, why
                    )

    def _finalize(self) -> None:
        if self._pending is None:
            return
        (step, sealed), self._pending = self._pending, None
        try:
            sealed.result()
        except Exception as error:
            self._failed = True
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"checkpoint {step} was not written to {self._directory}: {find_root_cause(error)}"
            ) from error

    def _write_manifest(
        self, step: int, files: Mapping[str, str], metadata: CheckpointMetadata
    ) -> None:
        content = {"files": dict(files), "metadata": metadata.to_json()}
        write_atomically(
            self._directory / f"{step}{MANIFEST_SUFFIX}",
            json.dumps({**content, "sha256": hash_json(content)}, indent=1, allow_nan=False),
        )

    def _manifest(self, step: int) -> dict[str, Any]:
        file = self._directory / f"{step}{MANIFEST_SUFFIX}"
        try:
            manifest = json.loads(file.read_bytes())
            content = {"files": dict(manifest["files"]), "metadata": dict(manifest["metadata"])}
            intact = manifest["sha256"] == hash_json(content) and all(
                isinstance(value, int | float) for value in content["metadata"].values()
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(
                f"checkpoint {step} in {self._directory} is damaged: {file.name} cannot be read ({error!r})"
            ) from error
        if not intact:
            raise DamagedError(
                f"checkpoint {step} in {self._directory} is damaged: {file.name} changed since it was saved"
            )
        return content

    def verify(self, step: int) -> None:
        """Holds the files that the manifest of a step names against it; others, as a file manager leaves them, are nobody's concern.

        Raises:
          DamagedError: one was changed, or is missing.
          OSError: one cannot be read, which says nothing of what it holds.
        """
        files = self._manifest(step)["files"]
        found = hash_files(self._directory / str(step), only=files)
        if wrong := sorted(name for name in files if files[name] != found.get(name)):
            raise DamagedError(
                f"checkpoint {step} in {self._directory} is damaged: {', '.join(wrong[:3])} changed since it was saved"
            )
        self._intact = step

    def latest_intact_step(
        self, log_line: Callable[[str], None], *, from_scratch: bool = False
    ) -> int | None:
        """The newest finished step whose files are as they were written; None where there is none.

        Newer ones, which are damaged, are set aside under another name, and told of.

        Args:
          from_scratch: whether to do so also where that leaves none.

        Raises:
          DamagedError: there are finished steps, and not one of them is intact; they stay where they are.
          OSError: a file cannot be read, which says nothing of what it holds.
        """
        names = self._names()
        finished = self._finished(names)
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
            faults = "\n".join(map(str, damaged.values()))
            raise DamagedError(
                f"{faults}\nno checkpoint is left to go on from: bring one back, or begin again with --from-scratch"
            )
        for step, fault in damaged.items():
            log_line(f"{fault}; it is kept as {self._set_aside(step)}, and not used")
        return intact

    def _set_aside(self, step: int) -> str:
        """Renames a step so that it is none any more, its manifest first."""
        there = set(self._names())
        name = next(
            name
            for name in (f"{step}.damaged{'' if i < 1 else f'.{i}'}" for i in range(len(there) + 1))
            if name not in there
        )
        with suppress(FileNotFoundError):
            (self._directory / f"{step}{MANIFEST_SUFFIX}").rename(self._directory / f"{name}.json")
        (self._directory / str(step)).rename(self._directory / name)
        return name

    def restore(self, step: int, target: Any) -> Any:
        """The state saved at `step`, in the shapes, dtypes and shardings of the abstract `target`; leaves of it that are
        `SKIP_ARRAY` are left out, and not read.

        Raises:
          CheckpointError: files that changed since they were written, or a state of other shapes, dtypes or names.
        """
        if step != self._intact:
            self.verify(step)
        try:
            return self._read(step, target)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {step} in {self._directory} cannot be read: {find_root_cause(error)}"
            ) from error

    def _read(self, step: int, target: Any) -> Any:
        stored = self._orbax.checkpointables_metadata(step)
        found, metadata = stored.metadata["state"], stored.custom_metadata or {}
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"checkpoint {step} has format {version}, this version reads {FORMAT_VERSION}"
            )
        joined, targets = metadata["joined"], dict(named_arrays(target))
        self._compare(step, format_arrays(found, joined), targets)
        wanted = {name for name, leaf in targets.items() if leaf is not SKIP_ARRAY}
        read = wanted | {get_field(name) for name in wanted}
        asked = {
            name: SKIP_ARRAY
            if name not in read
            else found[name]
            if name in joined
            else targets[name]
            for name in found
        }
        loaded = self._orbax.load_checkpointables(step, {"state": asked})["state"]
        arrays = unpack_arrays(
            {name: leaf for name, leaf in loaded.items() if asked[name] is not SKIP_ARRAY}, joined
        )
        placed = [
            place_array(arrays[name], leaf) if name in wanted else SKIP_ARRAY
            for name, leaf in targets.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(target), placed)

    def _compare(self, step: int, before: Mapping[str, str], targets: Mapping[str, Any]) -> None:
        """Orbax reports a wrong shape as "incompatible handler", and casts to another dtype without a word."""
        after = {
            name: "unwanted" if leaf is SKIP_ARRAY else format_signature(leaf.shape, leaf.dtype)
            for name, leaf in targets.items()
        }
        lines = [
            f"  {name}: saved {before.get(name, 'nothing')}, wanted {after.get(name, 'nothing')}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
            and not (name in before and after.get(name) == "unwanted")
        ]
        if lines:
            more = [f"  and {len(lines) - 8} more"] if len(lines) > 8 else []
            raise CheckpointError(
                "\n".join(
                    [
                        f"checkpoint {step} in {self._directory} is of another network or optimizer:",
                        *lines[:8],
                        *more,
                    ]
                )
            )

    def close(self) -> None:
        """Waits for the save under way."""
        try:
            self._finalize()
        finally:
            self._sealer.shutdown()
            if "_orbax" in self.__dict__:
                try:
                    self._orbax.close()
                except Exception:
                    if (
                        not self._failed
                    ):  # else it tells of the same failure once more, without the step
                        raise


@cache
def silence_orbax() -> None:
    """Leaves it to this module to tell of saves: Orbax logs a dozen lines of each, and a thousand of one that fails, in which
    TensorStore has a traceback for every write that was given up."""
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    before = sys.unraisablehook
    sys.unraisablehook = lambda found: (
        None if str(found.exc_value) == "Event loop is closed" else before(found)
    )


def parse_steps(names: Iterable[str]) -> list[int]:
    """The steps among names of files, the lowest first."""
    return sorted(int(name) for name in names if name.isdecimal())


def format_arrays(stored: Mapping[str, Any], joined: PackedLayout) -> dict[str, str]:
    """Name -> `(3, 4) float32` of each array of a checkpoint."""
    apart = {
        name: format_signature(leaf.shape, leaf.dtype)
        for name, leaf in stored.items()
        if name not in joined
    }
    return apart | {
        name: format_signature(shape, dtype)
        for inside in joined.values()
        for name, shape, dtype in inside
    }


def format_signature(shape: Sequence[int], dtype: Any) -> str:
    """`(3, 4) float32`."""
    return f"{tuple(shape)} {jax.numpy.dtype(dtype)}"


def place_array(value: Any, target: jax.ShapeDtypeStruct) -> jax.Array:
    """Lays an array out as `target` is; what Orbax read on its own it has laid out."""
    if isinstance(value, jax.Array):
        return value
    return jax.make_array_from_callback(target.shape, target.sharding, lambda index: value[index])


def hash_files(
    directory: epath.Path, *, only: Container[str] | None = None, under: str = ""
) -> dict[str, str]:
    """Name -> SHA-256 of every file under `directory`, or of those in `only`; links are not followed, and have none.

    Names with a dot in front are passed over: a file manager, and not Orbax, writes them (`.DS_Store`).
    """
    found: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        name = f"{under}{path.name}"
        if path.name.startswith("."):
            continue
        if os.path.islink(path):
            found[name] = "a link"
        elif path.is_dir():
            found |= hash_files(path, only=only, under=f"{name}/")
        elif only is None or name in only:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def hash_json(content: Any) -> str:
    """SHA-256 of what is JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_root_cause(error: BaseException) -> BaseException:
    """Orbax wraps the true cause of a failure in several others."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
