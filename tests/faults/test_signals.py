"""A run that is told to stop stops soon, with 75, and ends with the same bits when its line is given again."""

import shutil
import signal
import time

import pytest

from inception_jax.parting import parting
from tests.faults.runs import Process, completed, killed_at

PHASES = {
    "start-up": "now in start-up",
    "compile": "compiling the training step",
    "training": "step 60/126",
    "evaluation": "now in evaluation",
    "saving": "now in saving",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    completed(folder, "warm")  # it compiles; the others find that in the cache
    began = time.monotonic()
    completed(folder, "undisturbed")
    return folder, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "number"), [*((phase, signal.SIGTERM) for phase in PHASES), ("training", signal.SIGINT)])
def test_a_signal_in_every_phase(undisturbed, phase, number):
    folder, _ = undisturbed
    workdir = f"{phase}-{number.name}"
    process = Process(folder, "--workdir", workdir, "--import", "tests.faults.slow")
    process.until(PHASES[phase])
    told = time.monotonic()
    process.send(number)
    assert process.wait() == 75, process.text
    assert time.monotonic() - told < 15
    assert number.name in process.text
    assert "Traceback" not in process.text
    completed(folder, workdir)
    found = parting(str(folder / "undisturbed"), str(folder / workdir))
    assert (found.step, found.rows > 0, found.checkpoints[-1]) == (None, True, 126), found.lines()


@pytest.mark.slow
def test_a_signal_while_population_statistics_are_taken(undisturbed):
    folder, _ = undisturbed
    line = ["undisturbed", "--statistics", "population", "--batches", "40", "--json"]
    process = Process(folder, *line, "--import", "tests.faults.slow", command="evaluate")
    process.until("now in population statistics")
    process.send(signal.SIGTERM)
    assert process.wait(15) == 75, process.text
    whole = Process(folder, *line, command="evaluate")
    assert whole.wait() == 0
    assert '"top1"' in whole.text


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once_without_harm(undisturbed):
    folder, _ = undisturbed
    process = Process(folder, "--workdir", "twice", "--import", "tests.faults.slow")
    process.until("now in saving")
    process.send(signal.SIGTERM)
    time.sleep(0.2)
    process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    completed(folder, "twice")
    assert parting(str(folder / "undisturbed"), str(folder / "twice")).step is None


@pytest.mark.slow
@pytest.mark.parametrize("fifth", range(5))
def test_a_run_that_is_killed(undisturbed, fifth):
    """Killed once in each fifth of the time that it takes; `benchmarks/faults.py` does it a hundred times at random."""
    folder, seconds = undisturbed
    workdir = f"killed-{fifth}"
    moment = (fifth + 0.5) / 5 * seconds
    while killed_at(folder, workdir, moment) is None:  # it was done before
        shutil.rmtree(folder / workdir)
        moment *= 0.9
    said = completed(folder, workdir)
    assert "damaged" not in said
    found = parting(str(folder / "undisturbed"), str(folder / workdir))
    assert (found.step, found.checkpoints[-1]) == (None, 126), found.lines()
