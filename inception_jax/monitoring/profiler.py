"""Profiles of some steps of a run."""

from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from inception_jax.monitoring.observers import Observer


class Profiler(Observer):
    """Profiles some steps into `WORKDIR/tensorboard/plugins/profile/`.

    TensorBoard's profiler and xprof look for profiles in that folder.

    Args:
      span: The first and the last step to profile; None for no profile. Of a run that covers only a
        part of the span, that part is profiled.
      log_line: Prints a line that names the folder.
    """

    def __init__(
        self, span: tuple[int, int] | None, workdir: epath.Path, log_line: Callable[[str], None]
    ):
        import jax  # commands that import this module run without JAX

        (self._first, self._last), self._log_line, self._jax = span or (0, 0), log_line, jax
        self._folder, self._is_open = workdir / "tensorboard", False

    def before_step(self, step: int) -> None:
        if self._first <= step <= self._last and not self._is_open:
            self._jax.profiler.start_trace(str(self._folder))
            self._is_open = True

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        if self._is_open and step >= self._last:
            self._jax.block_until_ready(sums)
            self.close()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._jax.profiler.stop_trace()
            self._log_line(
                f"a profile of steps {self._first} to {self._last} is in {self._folder}: "
                f"tensorboard --logdir {self._folder}"
            )
