"""The detection of steps that take too long."""

import faulthandler
import sys
import time
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from inception_jax.monitoring.observers import Observer

STALL_FACTOR = 10
"""A step stalls when it takes this many times the median."""
MIN_STALL_SECONDS = 20.0
"""A step of fewer seconds never counts as stalled."""
HISTORY_LENGTH = 50
"""The number of intervals that the median is taken over."""


class StallWatch(Observer):
    """Prints the stacks of all threads, once, when a step takes ten times the median.

    The run goes on. Without this, a collective whose partner does something else waits silently and
    for ever. The timer is a thread of `faulthandler`, written in C, so that it prints even while
    another thread holds the global interpreter lock.

    Steps are timed by intervals from one row of metrics to the next, because the accelerator is
    waited for only there. Compilation, with the first step, is part of no interval.

    Args:
      max_interval_steps: The largest number of steps between two rows of metrics.
      min_seconds: The time below which no step counts as stalled.
    """

    def __init__(self, max_interval_steps: int, *, min_seconds: float = MIN_STALL_SECONDS):
        self._max_interval_steps, self._min_seconds = max_interval_steps, min_seconds
        self._step_seconds = deque[float](maxlen=HISTORY_LENGTH)
        self._is_compiled = False
        self._interval_start, self._began = -1, 0.0  # the step before the interval; -1 for none

    def before_step(self, step: int) -> None:
        if self._interval_start >= 0 or not self._is_compiled:
            return
        self._interval_start, self._began = step - 1, time.monotonic()
        if self._step_seconds and sys.__stderr__ is not None:
            usual = median(self._step_seconds)
            timeout = max(self._min_seconds, (self._max_interval_steps - 1 + STALL_FACTOR) * usual)
            faulthandler.dump_traceback_later(timeout, file=sys.__stderr__)

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        self._is_compiled = True

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if 0 <= self._interval_start < step:
            seconds = time.monotonic() - self._began
            self._step_seconds.append(seconds / (step - self._interval_start))
            self.close()

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._interval_start = -1
