"""Stopping changes nothing: 2 + 2 steps equal 4, bit for bit, in separate processes; and so do two runs of one line."""

import chex
import pytest

from inception_jax.logbook import read_metrics
from inception_jax.workdir import opened
from tests.networks import LINE

STEPS = ("train", *LINE, "--log-every-steps", "1", "--checkpoint-every-epochs", "0", "--evaluate-every-epochs", "0")


def metrics(workdir):
    """What was measured of the network; how fast it went differs."""
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in read_metrics(workdir)]


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
def test_two_and_two_steps_are_four_and_the_same_line_is_the_same_run(command, tmp_path):
    for workdir, steps in (("whole", 4), ("again", 4), ("halves", 2), ("halves", 4)):
        done = command(*STEPS, "--workdir", workdir, "--steps", steps)
        assert done.returncode == 0, done.stderr
    assert "going on from step 2 of 4" in done.stdout
    whole = opened(str(tmp_path / "whole"))[2]
    assert int(whole.step) == 4
    for other in ("again", "halves"):
        chex.assert_trees_all_equal(opened(str(tmp_path / other))[2], whole)
    assert metrics(tmp_path / "again") == metrics(tmp_path / "whole")
    by_step = {row["step"]: row for row in metrics(tmp_path / "halves") if "train/loss" in row}
    assert [by_step[step]["train/loss"] for step in (1, 2, 3, 4)] == [
        row["train/loss"] for row in metrics(tmp_path / "whole") if "train/loss" in row
    ]
