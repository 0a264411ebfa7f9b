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
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # half the time that the network of three modules takes to compile
    subprocess.run(arguments, cwd=ROOT, env=os.environ | quick, check=True, capture_output=True, text=True, timeout=1800)
    with np.load(f"{file}.npz") as arrays:
        return dict(arrays), json.loads(open(f"{file}.json").read())


def apart(one, other):
    """The largest difference of two runs' arrays, and where it is."""
    assert one.keys() == other.keys()
    return max((float(np.abs(one[name] - other[name]).max()), name) for name in one if one[name].size)


@pytest.fixture(scope="module")
def digits_alone(tmp_path_factory):
    return enter("digits", 1, tmp_path_factory.mktemp("room") / "1", "float64", [8])


@pytest.mark.slow
def test_five_steps_in_float64_are_the_same_on_1_2_and_8_devices(tmp_path):
    groups = [4, 8, 64]
    alone, losses = enter("three", 1, tmp_path / "1", "float64", groups)
    assert {array.dtype for array in alone.values()} == {np.dtype(np.float64), np.dtype(np.int32)}
    assert len({each[-1] for each in losses.values()}) == len(groups)
    for devices in (2, 8):
        worst, name = apart(alone, enter("three", devices, tmp_path / str(devices), "float64", groups)[0])
        assert worst < 1e-9, f"{devices} devices: {name} differs by {worst}"


@pytest.mark.slow
def test_so_they_are_with_the_network_of_the_digits(tmp_path, digits_alone):
    worst, name = apart(digits_alone[0], enter("digits", 8, tmp_path / "8", "float64", [8])[0])
    assert worst < 1e-9, f"{name} differs by {worst}"


@pytest.mark.slow
def test_so_they_are_with_a_state_spread_over_8_devices_each_of_which_holds_an_eighth(tmp_path, digits_alone):
    together, held = enter("digits", "8/8", tmp_path / "8", "float64", [8])
    worst, name = apart(digits_alone[0], together)
    assert worst < 1e-9, f"{name} differs by {worst}"
    np.testing.assert_allclose(held["8"], digits_alone[1]["8"], atol=1e-9)
    for name in ("params", "opt_state", "average"):
        assert held[f"{name} on a device"] <= 1.05 / 8, held


@pytest.mark.slow
def test_the_first_loss_in_float32_is_the_same_to_1e_5(tmp_path):
    """Later losses are not compared: a deep network with batch norm amplifies float32 rounding."""
    losses = [enter("digits", devices, tmp_path / str(devices), "float32", [8])[1]["8"][0] for devices in (1, 8)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
