"""The first command, as a newcomer gives it: real digits to 0.98, again to be told it is complete, longer, and a digit named."""

import json
import time

import pytest

from inception_jax.data.digits import digits
from inception_jax.logbook import read_metrics


@pytest.mark.slow
def test_digits_to_98_percent_then_complete_then_longer_then_predict(command, tmp_path):
    began = time.monotonic()
    done = command("train", "digits", timeout=1800)
    assert done.returncode == 0, done.stderr
    print(f"trained in {time.monotonic() - began:.0f} s")
    workdir = tmp_path / "runs" / "digits"
    rows = read_metrics(workdir)
    assert rows[-1]["val/top1"] >= 0.98
    assert done.stdout.splitlines()[-1].endswith("pictures in runs/digits/report")
    assert "left" in done.stdout

    again = command("train", "digits")
    assert again.returncode == 0, again.stderr
    assert "this run is complete at step" in again.stdout
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]

    longer = command("train", "digits", "--steps", rows[-1]["step"] + 2)
    assert longer.returncode == 0, longer.stderr
    assert f"going on from step {rows[-1]['step']} of {rows[-1]['step'] + 2}" in longer.stdout
    assert read_metrics(workdir)[-1]["step"] == rows[-1]["step"] + 2

    named = command("predict", workdir, workdir / "report" / "example.png", "--json")
    assert named.returncode == 0, named.stderr
    assert json.loads(named.stdout)[0]["classes"][0]["class"] == str(digits("test")[1][0])
