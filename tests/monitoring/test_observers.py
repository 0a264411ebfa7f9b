"""A stalled step prints the stack of every thread, even while one holds the interpreter lock."""

import ctypes
import time

import pytest

from inception_jax.monitoring.observers import Observer, Observers
from inception_jax.monitoring.stall_watch import StallWatch


def make_steps(watch, *lengths):
    """Makes a step of each length in seconds, each an interval of its own, after a first one."""
    for step, seconds in enumerate((0, *lengths), 1):
        watch.before_step(step)
        time.sleep(seconds)
        watch.after_step(step, {})
        watch.write(step, {"perf/images_per_second": 1.0})


@pytest.mark.slow
def test_a_step_of_ten_times_the_median_prints_every_thread_while_the_lock_is_held(capfd):
    """The step lasts until it is reported: on a busy machine the other steps take long too."""
    watch = StallWatch(1, min_seconds=0.1)
    make_steps(watch, 0.02, 0.02)
    watch.before_step(4)
    stderr, end = "", time.monotonic() + 120
    while "Timeout" not in stderr and time.monotonic() < end:
        ctypes.PyDLL(None).usleep(500_000)  # without releasing the lock
        stderr += capfd.readouterr().err
    time.sleep(0.5)
    stderr += capfd.readouterr().err
    watch.close()
    assert stderr.count("Timeout") == 1
    assert "in test_a_step_of_ten_times_the_median_prints" in stderr


@pytest.mark.slow
def test_steps_of_usual_length_print_nothing(capfd):
    watch = StallWatch(1, min_seconds=2)
    make_steps(watch, 2.5, 0.02, 0.02, 0.05)
    time.sleep(2.5)  # no timer runs between intervals
    watch.close()
    assert capfd.readouterr().err == ""


def test_observers_are_called_in_order_and_closed_once():
    calls = []

    class Recorder(Observer):
        def __init__(self, name):
            self.before_step = lambda step: calls.append((name, "before", step))
            self.after_step = lambda step, sums: calls.append((name, "after", step))
            self.write = lambda step, metrics: calls.append((name, "write", metrics))
            self.close = lambda: calls.append((name, "close"))

    both = Observers(Recorder("a"), Recorder("b"), Observer())
    both.before_step(1)
    both.after_step(1, {})
    both.write(1, {"loss": 0.5})
    both.close()
    assert calls == [
        ("a", "before", 1), ("b", "before", 1), ("a", "after", 1), ("b", "after", 1),
        ("a", "write", {"loss": 0.5}), ("b", "write", {"loss": 0.5}),
        ("a", "close"), ("b", "close"),
    ]  # fmt: skip
