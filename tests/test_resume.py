"""Stopping changes nothing: 2 + 2 steps equal 4, bit for bit, in separate processes."""

import chex
import pytest

from benchmarks.runs import WITHOUT_PICTURES
from benchmarks.small_networks import LINE
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.trainer.runs import open_run

STEPS = (
    "train",
    *LINE,
    "--log-every-steps",
    "1",
    "--checkpoint-every-epochs",
    "0",
    "--evaluate-every-epochs",
    "0",
)


def metrics(workdir):
    """Returns the metrics of the network, without those of speed."""
    return [
        {name: value for name, value in row.items() if not name.startswith("perf/")}
        for row in read_metrics(workdir)
    ]


@pytest.mark.slow
def test_two_and_two_steps_are_four_in_separate_processes(command, process, tmp_path):
    done = command(*STEPS, "--workdir", "whole", "--steps", 4)
    assert done.returncode == 0, done.stderr
    for steps in (2, 4):
        done = process(*STEPS, "--workdir", "halves", "--steps", steps, PYTHONPATH=WITHOUT_PICTURES)
        assert done.returncode == 0, done.stderr
    assert "going on from step 2 of 4" in done.stderr
    whole = open_run(str(tmp_path / "whole"))[2]
    assert int(whole.step) == 4
    chex.assert_trees_all_equal(open_run(str(tmp_path / "halves"))[2], whole)
    by_step = {row["step"]: row for row in metrics(tmp_path / "halves") if "train/loss" in row}
    assert [by_step[step]["train/loss"] for step in (1, 2, 3, 4)] == [
        row["train/loss"] for row in metrics(tmp_path / "whole") if "train/loss" in row
    ]


@pytest.mark.nightly
def test_a_line_given_twice_makes_the_same_run(process, tmp_path):
    for workdir in ("once", "again"):
        done = process(*STEPS, "--workdir", workdir, "--steps", 4, PYTHONPATH=WITHOUT_PICTURES)
        assert done.returncode == 0, done.stderr
    chex.assert_trees_all_equal(
        open_run(str(tmp_path / "once"))[2], open_run(str(tmp_path / "again"))[2]
    )
    assert metrics(tmp_path / "once") == metrics(tmp_path / "again")
