"""A step that takes too long shows where every thread is, also while one holds Python's lock."""

import ctypes
import time

import pytest

from inception_jax.monitoring.observers import Observer, Observers
from inception_jax.monitoring.stall_watch import StallWatch


def make_steps(watch, *lengths):
    """Makes a step of each length in seconds, each a stretch of its own; the first compiles."""
    for step, seconds in enumerate((0, *lengths), 1):
        watch.before_step(step)
        time.sleep(seconds)
        watch.after_step(step, {})
        watch.write(step, {"perf/images_per_second": 1.0})


@pytest.mark.slow
def test_a_step_of_ten_times_the_median_shows_every_thread_while_the_lock_is_held(capfd):
    """The step is waited for until it is told of, since a busy machine makes the others long, too."""
    watch = StallWatch(1, least=0.1)
    make_steps(watch, 0.02, 0.02)
    watch.before_step(4)
    said, end = "", time.monotonic() + 120
    while "Timeout" not in said and time.monotonic() < end:
        ctypes.PyDLL(None).usleep(500_000)  # without giving up the lock
        said += capfd.readouterr().err
    time.sleep(0.5)
    said += capfd.readouterr().err
    watch.close()
    assert said.count("Timeout") == 1
    assert "in test_a_step_of_ten_times_the_median_shows" in said


@pytest.mark.slow
def test_steps_of_usual_length_print_nothing(capfd):
    watch = StallWatch(1, least=2)
    make_steps(watch, 2.5, 0.02, 0.02, 0.05)
    time.sleep(2.5)  # between stretches nothing is expected
    watch.close()
    assert capfd.readouterr().err == ""


def test_observers_are_called_in_order_and_closed_once():
    calls = []

    class Noted(Observer):
        def __init__(self, name):
            self.before_step = lambda step: calls.append((name, "before", step))
            self.after_step = lambda step, sums: calls.append((name, "after", step))
            self.write = lambda step, metrics: calls.append((name, "write", metrics))
            self.close = lambda: calls.append((name, "close"))

    both = Observers(Noted("a"), Noted("b"), Observer())
    both.before_step(1)
    both.after_step(1, {})
    both.write(1, {"loss": 0.5})
    both.close()
    assert calls == [
        ("a", "before", 1), ("b", "before", 1), ("a", "after", 1), ("b", "after", 1),
        ("a", "write", {"loss": 0.5}), ("b", "write", {"loss": 0.5}), ("a", "close"), ("b", "close"),
    ]  # fmt: skip
