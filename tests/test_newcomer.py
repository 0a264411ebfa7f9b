"""The first command, as a newcomer gives it: real digits to 0.98, again to be told it is complete,
longer, and a digit named.
"""

import json
import time
from functools import partial

import pytest

from benchmarks.small_networks import LINE
from inception_jax.data.digits import load_digits
from inception_jax.monitoring.metrics_log import read_metrics
from tests.conftest import OPTIMIZED_FLAGS


def train_ask_again_go_on_and_predict(command, tmp_path, *fields):
    """Holds what the commands print; returns the rows of the metrics of the first run."""
    workdir = tmp_path / "runs" / "digits"
    done = command("train", "digits", *fields)
    assert done.returncode == 0, done.stderr
    rows = read_metrics(workdir)
    assert done.stdout.splitlines()[-1].endswith("pictures in runs/digits/report")
    assert "left" in done.stderr

    again = command("train", "digits", *fields)
    assert again.returncode == 0, again.stderr
    assert "this run is complete at step" in again.stderr
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]

    steps = rows[-1]["step"] + 2
    longer = command("train", "digits", *fields, "--steps", steps)
    assert longer.returncode == 0, longer.stderr
    assert f"going on from step {steps - 2} of {steps}" in longer.stderr
    assert read_metrics(workdir)[-1]["step"] == steps

    named = command("predict", workdir, workdir / "report" / "example.png", "--json")
    assert named.returncode == 0, named.stderr
    return rows, json.loads(named.stdout)[0]["classes"][0]["class"]


@pytest.mark.slow
def test_a_small_network_learns_digits_is_complete_and_goes_on(command, tmp_path):
    rows, guess = train_ask_again_go_on_and_predict(
        command,
        tmp_path,
        *LINE[1:],
        "--steps",
        "150",
        "--batch-size",
        "32",
        "--evaluate-every-epochs",
        "0",
    )
    assert rows[-1]["val/top1"] > 0.2  # 0.32; chance is 0.1, give or take 0.014
    assert guess in set("0123456789")


@pytest.mark.nightly
def test_the_command_train_digits_reaches_98_percent_top_1(process, tmp_path):
    """With the program that a newcomer's XLA compiles."""
    began = time.monotonic()
    rows, guess = train_ask_again_go_on_and_predict(
        partial(process, XLA_FLAGS=OPTIMIZED_FLAGS), tmp_path
    )
    print(f"trained, and more, in {time.monotonic() - began:.0f} s")
    assert rows[-1]["val/top1"] >= 0.98
    assert guess == str(load_digits("test")[1][0])
