"""Checkpoints: Orbax behind one thin face, with the checks that it lacks.

A checkpoint exists when its manifest does. After Orbax's own commit the SHA-256 of every file goes to
`checkpoints/<step>.sha256.json`, by rename; without it a step is unfinished and is written again. Orbax keeps no checksum
of array data: a flipped byte would restore silently.
"""

import hashlib
import json
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from inception_jax.training.state import FORMAT_VERSION


class CheckpointError(ValueError):
    """A checkpoint that cannot be restored; the message says which and why."""

    exit_code = 65


class StorageError(OSError):
    """The file system did not take what was written."""

    exit_code = 74


class Checkpoints:
    """The checkpoints of one run, under `directory`; the newest `keep` are kept."""

    def __init__(self, directory: epath.Path, *, keep: int, leads: bool = True):
        self._directory, self._leads = epath.Path(directory), leads
        self._pending: tuple[int, Future[None]] | None = None
        self._sealer = ThreadPoolExecutor(1)  # so that a checkpoint is there for others as soon as it is whole
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of each save in a dozen lines
        policy = ocp.training.preservation_policies.LatestN(keep)
        self._orbax = ocp.training.Checkpointer(self._directory, preservation_policy=policy)

    def steps(self) -> list[int]:
        """Finished steps, the oldest first."""
        manifests = (path.name.partition(".") for path in self._directory.glob("*.sha256.json"))
        return sorted(int(step) for step, _, _ in manifests if (self._directory / step).exists())

    def save(self, step: int, state: Any) -> None:
        """Begins to save; the next `save`, and `close`, wait for it, and tell what went wrong with it.

        Raises:
          StorageError: this save could not begin, or the one before it failed.
        """
        self._finish()
        metadata = {"format_version": FORMAT_VERSION}
        try:
            saving = self._orbax.save_checkpointables_async(
                step, {"state": state}, custom_metadata=metadata, force=True, overwrite=step not in self.steps()
            )
        except OSError as error:
            raise StorageError(f"checkpoint {step} was not written to {self._directory}: {root_cause(error)}") from error
        self._pending = (step, self._sealer.submit(self._complete, step, saving))

    def _complete(self, step: int, saving: Any) -> None:
        saving.result()
        if self._leads:
            self._seal(step)

    def _finish(self) -> None:
        if self._pending is None:
            return
        (step, sealed), self._pending = self._pending, None
        try:
            sealed.result()
        except Exception as error:
            raise StorageError(f"checkpoint {step} was not written to {self._directory}: {root_cause(error)}") from error

    def _seal(self, step: int) -> None:
        for path in self._directory.glob("*.sha256.json"):
            if not (self._directory / path.name.partition(".")[0]).exists():
                path.unlink()  # of a step that was not kept
        manifest = json.dumps(digests(self._directory / str(step)), indent=1)
        unfinished = self._directory / f"{step}.sha256.json.tmp"
        unfinished.write_text(manifest)
        unfinished.replace(self._directory / f"{step}.sha256.json")

    def restore(self, step: int, target: Any) -> Any:
        """The state saved at `step`, in the shapes, dtypes and shardings of the abstract `target`.

        Raises:
          CheckpointError: files that changed since they were written, or a state of other shapes or names.
        """
        manifest = json.loads((self._directory / f"{step}.sha256.json").read_text())
        found = digests(self._directory / str(step))
        if damaged := sorted(name for name in manifest.keys() | found.keys() if manifest.get(name) != found.get(name)):
            raise CheckpointError(
                f"checkpoint {step} in {self._directory} is damaged: {', '.join(damaged[:3])} changed since it was saved; "
                f"move {step} and {step}.sha256.json away to go on from an earlier one"
            )
        stored = self._orbax.checkpointables_metadata(step)
        version = (stored.custom_metadata or {}).get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(f"checkpoint {step} has format {version}, this version reads {FORMAT_VERSION}")
        self._compare(step, stored.metadata["state"], target)
        try:
            return self._orbax.load_checkpointables(step, {"state": target})["state"]
        except Exception as error:
            raise CheckpointError(f"checkpoint {step} in {self._directory} cannot be read: {root_cause(error)}") from error

    def _compare(self, step: int, stored: Any, target: Any) -> None:
        """Orbax reports a wrong shape as "incompatible handler", so shapes are compared before anything is read."""
        before, after = shapes(stored), shapes(target)
        lines = [
            f"  {name}: saved {before.get(name, 'nothing')}, wanted {after.get(name, 'nothing')}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
        if lines:
            more = [f"  and {len(lines) - 8} more"] if len(lines) > 8 else []
            raise CheckpointError(
                "\n".join([f"checkpoint {step} in {self._directory} is of another network or optimizer:", *lines[:8], *more])
            )

    def close(self) -> None:
        """Waits for the save under way."""
        try:
            self._finish()
        finally:
            self._sealer.shutdown()
            self._orbax.close()


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Dotted name -> shape of each array, whether fields are attributes, keys or positions."""
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {
        ".".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path): tuple(leaf.shape)
        for path, leaf in leaves
    }


def digests(directory: epath.Path) -> dict[str, str]:
    """Name -> SHA-256 of every file under `directory`."""
    found: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            found |= {f"{path.name}/{name}": digest for name, digest in digests(path).items()}
        else:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def root_cause(error: BaseException) -> BaseException:
    """Orbax wraps the true cause of a failure in several others."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
