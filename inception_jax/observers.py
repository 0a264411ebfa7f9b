"""What watches the steps of a run: none of it changes what a step computes."""

import faulthandler
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from etils import epath

FACTOR = 10
"""Times the median of a step, from which on it takes too long."""
LEAST = 20.0
"""Seconds; a shorter step is never too long."""
REMEMBERED = 50


class Observer:
    """Hooks around the steps of a run; each does nothing unless a subclass overrides it."""

    def before_step(self, step: int) -> None:
        """Is called when the batch of `step` is there, and the step is about to be dispatched."""

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        """Is called when `step` was dispatched; its `sums` may not have been computed yet."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Is called with the metrics of `step`, where some are due, after training or after evaluation."""

    def close(self) -> None:
        """Is called once, when no more steps are made."""


class Observers(Observer):
    """Several observers as one, called in order."""

    def __init__(self, *members: Observer):
        self._members = members

    def before_step(self, step: int) -> None:
        for member in self._members:
            member.before_step(step)

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        for member in self._members:
            member.after_step(step, sums)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for member in self._members:
            member.write(step, metrics)

    def close(self) -> None:
        for member in self._members:
            member.close()


class StallWatch(Observer):
    """Prints the stacks of all threads, once, when a step takes ten times the median; the run goes on.

    A collective that waits for a process which does something else never ends by itself. The timer is a thread of `faulthandler`'s, in C:
    it prints while another thread holds Python's lock. Steps are timed by stretches, since an accelerator is waited for where metrics are
    due; compiling, with the first step, is no part of any.

    Args:
      stretch: the most steps from one writing of metrics to the next.
      least: seconds below which no step is too long.
    """

    def __init__(self, stretch: int, *, least: float = LEAST):
        self._stretch, self._least, self._steps = stretch, least, deque[float](maxlen=REMEMBERED)
        self._is_compiled, self._since, self._began = False, -1, 0.0

    def before_step(self, step: int) -> None:
        if self._since >= 0 or not self._is_compiled:
            return
        self._since, self._began = step - 1, time.monotonic()
        if self._steps and sys.__stderr__ is not None:
            seconds = (self._stretch - 1 + FACTOR) * median(self._steps)
            faulthandler.dump_traceback_later(max(self._least, seconds), file=sys.__stderr__)

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        self._is_compiled = True

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if 0 <= self._since < step:
            self._steps.append((time.monotonic() - self._began) / (step - self._since))
            self.close()

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._since = -1


class Profile(Observer):
    """A profile of some steps, where TensorBoard's profiler and xprof look for one: `WORKDIR/tensorboard/plugins/profile/`.

    Args:
      span: the first and the last step to profile, or whatever part of them is made; None for none.
      log_line: prints a line that names the folder.
    """

    def __init__(self, span: tuple[int, int] | None, workdir: epath.Path, log_line: Callable[[str], None]):
        import jax  # commands that import this module do without

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
            self._log_line(f"a profile of steps {self._first} to {self._last} is in {self._folder}: tensorboard --logdir {self._folder}")
