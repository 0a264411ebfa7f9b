"""The time that the stages of the input pipeline take."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """A timer that sums seconds by stage over all threads: `with timer("decode"): ...`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[stage] += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Returns the seconds of each stage so far, the longest first."""
        with self._lock:
            return dict(sorted(self._seconds.items(), key=lambda item: -item[1]))


def count_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def format_input_bound(waited: float, stages: dict[str, float], threads: int) -> str:
    """Returns a hint for a run that spends the fraction `waited` of its time waiting for data."""
    stage, share = next(iter(stages)), next(iter(stages.values())) / sum(stages.values())
    remedy = (
        f"raise data.threads from {threads}" if threads < count_cores() else "they are all at work"
    )
    return (
        f"input-bound: {waited:.0%} of the time went into waiting for data, and {share:.0%} of the "
        f"host's work on it is {stage}; of {count_cores()} cores {remedy}. `inception-jax data "
        "benchmark` says how many are needed"
    )
