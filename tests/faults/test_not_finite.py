"""Numbers that become NaN end a run soon, with 70 and the layer's name, or are left out and
counted.
"""

import json

import pytest

from benchmarks.runs import RECIPE, pair
from inception_jax.monitoring.metrics_log import read_metrics
from tests.faults import poison


@pytest.fixture
def train(command, monkeypatch):
    """Trains in this process, one image of step 46 being NaN."""
    monkeypatch.setattr(poison.Run, "prepare_training", poison.poisoned)
    return lambda *fields: command("train", *RECIPE, "--workdir", "run", *fields)


def checkpoints(workdir):
    return [
        path.name for path in sorted((workdir / "checkpoints").iterdir()) if path.name.isdigit()
    ]


@pytest.mark.slow
def test_a_run_that_is_not_finite_ends_keeps_its_last_finite_checkpoint(train, tmp_path):
    done = train("--log-every-steps", "1000")
    assert done.returncode == 70, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "the loss or gradient of step 46 was NaN or infinite" in last
    assert "inception-jax replay" in last
    assert checkpoints(tmp_path / "run") == ["21", "42"]
    assert (
        poison.POISONED in json.loads((tmp_path / "run" / "diverged.json").read_text())["positions"]
    )
    (attempt,) = json.loads((tmp_path / "run" / "run.json").read_text())["attempts"]
    assert attempt["outcome"].startswith("DivergedError")


@pytest.mark.slow
def test_skip_and_count_leaves_out_and_counts_a_non_finite_step(train, tmp_path):
    done = train("--on-not-finite", "skip_and_count")
    assert done.returncode == 0, done.stderr
    rows = read_metrics(tmp_path / "run")
    assert [
        (row["step"], row["train/not_finite"]) for row in rows if "train/not_finite" in row
    ] == [(60, 1)]
    assert all(value == value for row in rows for value in row.values())


@pytest.mark.nightly
def test_replay_names_the_layer_that_is_not_finite_first(train, command):
    assert train().returncode == 70
    replayed = command("replay", "run", "46")
    assert replayed.returncode == 0, replayed.stderr
    assert (
        "step 46: the first that is not finite is the input of one (25.00% of it)"
        in replayed.stdout
    )  # one image of 4


@pytest.mark.nightly
def test_every_process_of_a_run_ends_with_code_70_on_a_non_finite_step(tmp_path):
    processes = pair(tmp_path, "run", "--import", "tests.faults.poisoned")
    assert [process.wait() for process in processes] == [70, 70], (
        processes[0].text + processes[1].text
    )
    assert (
        "the loss or gradient of step 46 was NaN or infinite" in processes[0].text.splitlines()[-1]
    )
    assert json.loads((tmp_path / "run" / "diverged.json").read_text())["step"] == 46
