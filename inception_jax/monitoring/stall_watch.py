"""A watch for steps that take too long."""

import faulthandler
import sys
import time
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from inception_jax.monitoring.observers import Observer

STALL_FACTOR = 10
"""Times the median of a step, from which on it takes too long."""
MIN_STALL_SECONDS = 20.0
"""Seconds; a shorter step is never too long."""
HISTORY_LENGTH = 50


class StallWatch(Observer):
    """Prints the stacks of all threads, once, when a step takes ten times the median; the run goes on.

    A collective that waits for a process which does something else never ends by itself. The timer is a thread of `faulthandler`'s, in C:
    it prints while another thread holds Python's lock. Steps are timed by stretches, since an accelerator is waited for where metrics are
    due; compiling, with the first step, is no part of any.

    Args:
      stretch: the most steps from one writing of metrics to the next.
      least: seconds below which no step is too long.
    """

    def __init__(self, stretch: int, *, least: float = MIN_STALL_SECONDS):
        self._stretch, self._least, self._steps = (
            stretch,
            least,
            deque[float](maxlen=HISTORY_LENGTH),
        )
        self._is_compiled, self._since, self._began = False, -1, 0.0

    def before_step(self, step: int) -> None:
        if self._since >= 0 or not self._is_compiled:
            return
        self._since, self._began = step - 1, time.monotonic()
        if self._steps and sys.__stderr__ is not None:
            seconds = (self._stretch - 1 + STALL_FACTOR) * median(self._steps)
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
