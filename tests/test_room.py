"""A run is the same on 1, 2 and 8 devices, for any number of examples that share statistics."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT


def train(network, file, precision, groups, *arrangements):
    """Returns (arrays, what else was found) of `tests.room` by arrangement."""
    arguments = [
        sys.executable,
        "-m",
        "tests.room",
        network,
        str(file),
        precision,
        ",".join(map(str, groups)),
        *arrangements,
    ]
    subprocess.run(
        arguments,
        cwd=ROOT,
        env=os.environ,
        check=True,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    found = {}
    for arrangement in arrangements:
        name = f"{file}-{arrangement.replace('/', 'by')}"
        with np.load(f"{name}.npz") as arrays, open(f"{name}.json") as rest:
            found[arrangement] = dict(arrays), json.load(rest)
    return found


def largest_difference(one, other):
    """Returns the largest difference of two runs' arrays, and the name of that array."""
    assert one.keys() == other.keys()
    return max(
        (float(np.abs(one[name] - other[name]).max()), name) for name in one if one[name].size
    )


def hold_alike(found, groups):
    """Holds every arrangement to that of one device: arrays, losses, and the share of a spread
    state on a device.
    """
    alone, about = found["1"]
    assert {array.dtype for array in alone.values()} == {np.dtype(np.float64), np.dtype(np.int32)}
    assert len({about[str(group)][-1] for group in groups}) == len(
        groups
    )  # the size of a group matters
    for arrangement, (arrays, others) in found.items():
        worst, name = largest_difference(alone, arrays)
        assert worst < 1e-9, f"{arrangement}: {name} differs by {worst}"
        for group in groups:
            np.testing.assert_allclose(others[str(group)], about[str(group)], rtol=0, atol=1e-9)
        for name in ("params", "opt_state", "average"):
            assert others[f"{name} on a device"] <= 1.05 / int(arrangement.partition("/")[2] or 1)


@pytest.mark.slow
def test_five_steps_in_float64_are_the_same_on_1_and_8_devices(tmp_path):
    hold_alike(train("mixed", tmp_path / "room", "float64", [4, 64], "1", "8"), [4, 64])


@pytest.mark.nightly
@pytest.mark.parametrize("network", ["mixed", "digits"])
def test_five_steps_in_float64_are_the_same_on_1_2_and_8_devices_and_with_a_sharded_state(
    network, tmp_path
):
    groups, spread = ([4, 8, 64], "8/2") if network == "mixed" else ([8], "8/8")
    hold_alike(train(network, tmp_path / "room", "float64", groups, "1", "2", "8", spread), groups)


@pytest.mark.nightly
def test_the_first_loss_in_float32_is_the_same_to_1e_5_on_1_and_8_devices(tmp_path):
    """Later losses are not compared: a deep network with batch norm amplifies float32 rounding."""
    (one, eight) = (
        about["8"][0]
        for _, about in train("digits", tmp_path / "room", "float32", [8], "1", "8").values()
    )
    assert eight == pytest.approx(one, rel=1e-5)
