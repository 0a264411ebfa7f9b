"""Two processes make one run: what becomes of it when one of them goes."""

import re
import signal
import time

import pytest

from benchmarks.runs import Process, pair
from inception_jax.debugging.compare_runs import diff_states, group_metrics_by_step
from tests.tiers import sweep


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with two devices: the same mesh."""
    folder = tmp_path_factory.mktemp("peers")
    process = Process(folder, "--workdir", "alone", JAX_NUM_CPU_DEVICES="2")
    assert process.wait() == 0, process.text
    return folder


@pytest.mark.parametrize("victim", sweep([0, 1], [1]))
def test_a_process_exits_with_code_69_when_its_peer_is_killed_and_the_run_resumes(alone, victim):
    workdir = f"victim-{victim}"
    processes = pair(alone, workdir)
    processes[0].until("step 60/126")
    processes[victim].send(signal.SIGKILL)
    killed = time.monotonic()
    other = processes[1 - victim]
    assert other.wait() == 69, other.text
    assert time.monotonic() - killed < 30
    assert f"process {victim} of 2 is lost" in other.text.splitlines()[-1]
    processes = pair(alone, workdir)
    assert [process.wait() for process in processes] == [0, 0], (
        processes[0].text + processes[1].text
    )
    assert re.search("going on from step (42|63) of 126", processes[0].text)
    assert "step " not in processes[1].text  # the lead alone speaks
    assert group_metrics_by_step(str(alone / workdir)) == group_metrics_by_step(
        str(alone / "alone")
    )
    assert diff_states(str(alone / workdir), str(alone / "alone")) == []


@pytest.mark.nightly
@pytest.mark.parametrize("signalled", [0, 1])
def test_sigterm_to_one_of_two_processes_saves_and_stops_both(alone, signalled):
    workdir = f"notice-{signalled}"
    processes = pair(alone, workdir, "--import", "tests.faults.slow")
    processes[0].until("now in evaluation")
    processes[signalled].send(signal.SIGTERM)
    assert [process.wait(60) for process in processes] == [75, 75], (
        processes[0].text + processes[1].text
    )
    process = Process(
        alone, "--workdir", workdir, JAX_NUM_CPU_DEVICES="2"
    )  # what two processes saved, one goes on from
    assert process.wait() == 0, process.text
    assert group_metrics_by_step(str(alone / workdir)) == group_metrics_by_step(
        str(alone / "alone")
    )
    assert diff_states(str(alone / workdir), str(alone / "alone")) == []


@pytest.mark.nightly
@pytest.mark.parametrize("number", [0, 1])
def test_sigterm_stops_a_process_that_waits_for_the_others(tmp_path, number):
    (process,) = pair(tmp_path, "run", "--import", "tests.faults.slow", numbers=[number])
    process.until("now in joining")
    time.sleep(2)
    process.send(signal.SIGTERM)
    assert process.wait(15) == 75, process.text
    assert not (tmp_path / "run").exists()
