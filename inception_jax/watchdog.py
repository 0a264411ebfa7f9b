"""Watches over steps that take too long: a collective that waits for a process which does something else never ends by itself."""

import faulthandler
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from statistics import median

FACTOR = 10
"""Times the median of a step, from which on it takes too long."""
LEAST = 20.0
"""Seconds; what takes less is not worth a word."""
REMEMBERED = 50


class Watchdog:
    """Prints the stacks of all threads, once, when a step takes ten times the median; the run goes on.

    Steps are timed by stretches, since an accelerator is waited for where figures are due.
    """

    def __init__(self, *, least: float = LEAST) -> None:
        self._least, self._steps = least, deque[float](maxlen=REMEMBERED)
        self._turn, self._deadline, self._what, self._open = threading.Condition(), float("inf"), "", True

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._set(0.0, open_=False)

    def expect(self, step: int, steps: int) -> None:
        """A stretch of at most `steps` begins, after `step`."""
        self._began = time.monotonic()
        if self._steps:
            usual = median(self._steps)
            self._what = f"after step {step}, where one takes {usual:.2g} s:"
            self._set(self._began + max(self._least, (steps - 1 + FACTOR) * usual))

    def made(self, steps: int) -> None:
        """The stretch ended, and was one of so many steps."""
        if steps:
            self._steps.append((time.monotonic() - self._began) / steps)
        self._set(float("inf"))

    def _set(self, deadline: float, *, open_: bool = True) -> None:
        with self._turn:
            self._deadline, self._open = deadline, open_
            self._turn.notify()

    def _watch(self) -> None:
        with self._turn:
            while self._open:
                left = self._deadline - time.monotonic()
                if left > 0:
                    self._turn.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                self._deadline = float("inf")
                with suppress(OSError, ValueError):
                    print(f"a step takes more than {FACTOR} times as long as usual, {self._what}", file=sys.stderr, flush=True)
                    faulthandler.dump_traceback(sys.stderr, all_threads=True)
