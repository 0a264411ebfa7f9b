"""A signal stops a run soon, with exit code 75; the same line given again ends with the bits of an
undisturbed run.

`test_stopped` stops a run at every moment without a process of its own.
"""

import shutil
import signal
import time

import pytest

from benchmarks.runs import Process, completed, killed_at
from inception_jax.debugging.compare_runs import compare_runs

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
def test_a_run_stopped_by_sigterm_then_by_sigint_then_killed_ends_with_the_same_bits(tmp_path):
    completed(tmp_path, "undisturbed")
    for number, step, code in (
        (signal.SIGTERM, 21, 75),
        (signal.SIGINT, 63, 75),
        (signal.SIGKILL, 105, -9),
    ):
        process = Process(tmp_path, "--workdir", "hurt", "--import", "tests.faults.slow")
        process.until(f"step {step}/126")
        stopped = time.monotonic()
        process.send(number)
        assert process.wait() == code, process.text
        assert time.monotonic() - stopped < 15
        assert "Traceback" not in process.text
        assert number == signal.SIGKILL or number.name in process.text
    said = completed(tmp_path, "hurt")
    assert "going on from step" in said
    assert "damaged" not in said
    found = compare_runs(str(tmp_path / "undisturbed"), str(tmp_path / "hurt"))
    assert (found.step, found.checkpoints[-1]) == (None, 126), found.format_lines()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("phase", "number"),
    [*((phase, signal.SIGTERM) for phase in PHASES), ("training", signal.SIGINT)],
)
def test_a_run_that_is_signalled_in_any_phase_exits_with_code_75_and_resumes_exactly(
    undisturbed, phase, number
):
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
    found = compare_runs(str(folder / "undisturbed"), str(folder / workdir))
    assert (found.step, found.rows > 0, found.checkpoints[-1]) == (None, True, 126), (
        found.format_lines()
    )


@pytest.mark.nightly
def test_sigterm_interrupts_the_computation_of_population_statistics(undisturbed):
    folder, _ = undisturbed
    line = ["undisturbed", "--statistics", "population", "--batches", "40", "--json"]
    process = Process(folder, *line, "--import", "tests.faults.slow", command="evaluate")
    process.until("now in population statistics")
    process.send(signal.SIGTERM)
    assert process.wait(15) == 75, process.text
    whole = Process(folder, *line, command="evaluate")
    assert whole.wait() == 0
    assert '"top1"' in whole.text


@pytest.mark.nightly
def test_a_second_signal_ends_a_run_at_once_and_the_run_resumes_exactly(undisturbed):
    folder, _ = undisturbed
    process = Process(folder, "--workdir", "twice", "--import", "tests.faults.slow")
    process.until("now in saving")
    process.send(signal.SIGTERM)
    time.sleep(0.2)
    process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    completed(folder, "twice")
    assert compare_runs(str(folder / "undisturbed"), str(folder / "twice")).step is None


@pytest.mark.nightly
@pytest.mark.parametrize("fifth", range(5))
def test_a_killed_run_resumes_to_the_same_bits(undisturbed, fifth):
    """Killed once in each fifth of the time that it takes; `benchmarks/kill_test.py` does it a
    hundred times at random.
    """
    folder, seconds = undisturbed
    workdir = f"killed-{fifth}"
    moment = (fifth + 0.5) / 5 * seconds
    while killed_at(folder, workdir, moment) is None:  # it was done before
        shutil.rmtree(folder / workdir)
        moment *= 0.9
    said = completed(folder, workdir)
    assert "damaged" not in said
    found = compare_runs(str(folder / "undisturbed"), str(folder / workdir))
    assert (found.step, found.checkpoints[-1]) == (None, 126), found.format_lines()
