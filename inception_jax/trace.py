"""A profile of some steps, where TensorBoard's profiler and xprof look for one: `WORKDIR/tensorboard/plugins/profile/`."""

from collections.abc import Callable
from typing import Any

import jax
from etils import epath


class Trace:
    """Traces the steps of `span`, the first to the last, or whatever part of them is made; nothing where it is None. `tell` is told of
    the file."""

    def __init__(self, span: tuple[int, int] | None, workdir: epath.Path, tell: Callable[[str], None]):
        (self._first, self._last), self._tell = span or (0, 0), tell
        self._folder, self._open = workdir / "tensorboard", False

    def before(self, step: int) -> None:
        """`step` is about to be made."""
        if self._first <= step <= self._last and not self._open:
            jax.profiler.start_trace(str(self._folder))
            self._open = True

    def after(self, step: int, made: Any) -> None:
        """`step` was dispatched, and gives `made`."""
        if self._open and step >= self._last:
            jax.block_until_ready(made)
            self.close()

    def close(self) -> None:
        """Writes what there is."""
        if self._open:
            self._open = False
            jax.profiler.stop_trace()
            self._tell(f"a profile of steps {self._first} to {self._last} is in {self._folder}: tensorboard --logdir {self._folder}")
