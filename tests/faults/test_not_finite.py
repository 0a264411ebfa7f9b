"""Numbers that become NaN end a run soon, with 70 and the layer's name, or are left out and counted."""

import json

import pytest

from inception_jax.logbook import read_metrics
from tests.faults.poison import POISONED, Run, clean
from tests.faults.runs import Process, pair

Run.prepare_training = clean  # importing it here was for the number alone
POISON = ("--import", "tests.faults.poison")


@pytest.mark.slow
def test_the_step_is_found_the_last_finite_checkpoint_kept_and_the_layer_named(tmp_path):
    process = Process(tmp_path, "--workdir", "run", *POISON, "--log-every-steps", "1000")
    assert process.wait() == 70, process.text
    last = process.text.splitlines()[-1]
    assert "the loss or gradient of step 46 was NaN or infinite" in last
    assert "inception-jax replay" in last
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir()) if path.name.isdigit()] == ["21", "42"]
    assert POISONED in json.loads((tmp_path / "run" / "diverged.json").read_text())["positions"]
    (attempt,) = json.loads((tmp_path / "run" / "run.json").read_text())["attempts"]
    assert attempt["outcome"].startswith("DivergedError")

    replayed = Process(tmp_path, "run", "46", *POISON, command="replay")
    assert replayed.wait() == 0, replayed.text
    assert "step 46: the first that is not finite is the input of one (25.00% of it)" in replayed.text  # one image of 4


@pytest.mark.slow
def test_or_the_step_is_left_out_and_counted(tmp_path):
    process = Process(tmp_path, "--workdir", "run", *POISON, "--on-not-finite", "skip_and_count")
    assert process.wait() == 0, process.text
    rows = read_metrics(tmp_path / "run")
    assert [(row["step"], row["train/not_finite"]) for row in rows if "train/not_finite" in row] == [(60, 1)]
    assert all(value == value for row in rows for value in row.values())


@pytest.mark.slow
def test_of_several_processes_each_says_so(tmp_path):
    processes = pair(tmp_path, "run", *POISON)
    assert [process.wait() for process in processes] == [70, 70], processes[0].text + processes[1].text
    assert "the loss or gradient of step 46 was NaN or infinite" in processes[0].text.splitlines()[-1]
    assert json.loads((tmp_path / "run" / "diverged.json").read_text())["step"] == 46
