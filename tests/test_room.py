"""The promise of the room: a run is the same on 1, 2 and 8 devices, for any number of examples that share statistics."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT


def enter(network, devices, file, precision, groups):
    arguments = [sys.executable, "-m", "tests.room", network, str(devices), str(file), precision, *map(str, groups)]
    subprocess.run(arguments, cwd=ROOT, env=os.environ, check=True, capture_output=True, text=True, timeout=1800)
    with np.load(f"{file}.npz") as arrays:
        return dict(arrays), json.loads(open(f"{file}.json").read())


@pytest.mark.slow
@pytest.mark.parametrize(("network", "devices", "groups"), [("three", (2, 8), [4, 8, 64]), ("digits", (8,), [8])])
def test_five_steps_in_float64_are_the_same_on_1_2_and_8_devices(tmp_path, network, devices, groups):
    """In every arrangement with a small network, in the recipe's own with that of the digits: its nine programs take six minutes."""
    alone, losses = enter(network, 1, tmp_path / "1", "float64", groups)
    assert {array.dtype for array in alone.values()} == {np.dtype(np.float64), np.dtype(np.int32)}
    assert len({each[-1] for each in losses.values()}) == len(groups)
    for number in devices:
        together, _ = enter(network, number, tmp_path / str(number), "float64", groups)
        assert together.keys() == alone.keys()
        worst = {name: float(np.abs(together[name] - alone[name]).max()) for name in alone if alone[name].size}
        name = max(worst, key=worst.__getitem__)
        assert worst[name] < 1e-9, f"{number} devices: {name} differs by {worst[name]}"


@pytest.mark.slow
def test_the_first_loss_in_float32_is_the_same_to_1e_5(tmp_path):
    """Later losses are not compared: a deep network with batch norm amplifies float32 rounding."""
    losses = [enter("digits", devices, tmp_path / str(devices), "float32", [8])[1]["8"][0] for devices in (1, 8)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
