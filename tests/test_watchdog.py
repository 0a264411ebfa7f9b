import time

import pytest

from inception_jax.watchdog import Watchdog


def stretches(dog, *lengths):
    for step, seconds in enumerate(lengths):
        dog.expect(step, 1)
        time.sleep(seconds)
        dog.made(1)


@pytest.mark.slow
def test_a_step_of_ten_times_the_median_shows_where_every_thread_is(capfd):
    """The third is waited for until it is told of, since a busy machine makes the others long, too."""
    with Watchdog(least=0.1) as dog:
        stretches(dog, 0.02, 0.02)
        dog.expect(2, 1)
        said, end = "", time.monotonic() + 120
        while "Current thread" not in said and time.monotonic() < end:
            time.sleep(0.5)
            said += capfd.readouterr().err
        time.sleep(0.5)
    said += capfd.readouterr().err
    assert said.count("a step takes more than 10 times as long as usual, after step 2, where one takes 0.") == 1
    assert "in test_a_step_of_ten_times_the_median_shows" in said


@pytest.mark.slow
def test_the_watchdog_prints_nothing_for_steps_of_usual_length(capfd):
    with Watchdog(least=2) as dog:
        stretches(dog, 2.5, 0.02, 0.02, 0.05)
        time.sleep(2.5)  # between stretches nothing is expected
    assert capfd.readouterr().err == ""
