"""Checkpoints as training loops write them: wrapped, prefixed, averaged, with other things beside
the network.
"""

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.weights.convert.selection import select_arrays

WANTED = [
    f"{layer}.{array}"
    for layer in ("conv1", "layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1")
    for array in ("weight", "bias", "mean")
]


def network(value=1.0):
    return {name: np.full((2, i + 1), value, np.float32) for i, name in enumerate(WANTED)}


def under(prefix, arrays):
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def is_network(found, value=1.0):
    expected = network(value)
    return {*expected} <= {*found.arrays} and all(
        np.array_equal(found.arrays[name], array) for name, array in expected.items()
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "_orig_mod.",
        "_orig_mod.module.",
        "module.model.backbone.",
        "net/",
        "student:",
    ],
)
def test_any_common_prefix_is_left_out_and_named(prefix):
    found = select_arrays(under(prefix, network()), WANTED)
    assert is_network(found)
    assert {*found.arrays} == {*WANTED}
    assert (f"{prefix}*" in " ".join(found.notes)) == bool(prefix)


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model_state_dict", "net", "model", "network", "params", "weights"]
)
def test_the_network_is_found_in_whatever_a_training_loop_wraps_it_in(wrapper):
    checkpoint = {
        "epoch": 7, "arch": "resnet18", "loss": np.float32(0.5), "best": np.array(0.9),
        wrapper: under("module.", network()),
        "optimizer": {"state": {0: {"momentum": np.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }  # fmt: skip
    found = select_arrays(checkpoint, WANTED)
    assert is_network(found)
    assert f"{wrapper} module.*" in found.notes[0]
    assert is_network(select_arrays({"checkpoint": checkpoint}, WANTED))


AVERAGES = [
    {"state_dict": network(1), "state_dict_ema": network(2)},
    {"model": network(1), "model_ema": network(2)},
    {"model": network(1), "ema": {"module": network(2)}},
    {"state_dict": {**under("model.", network(1)), **under("ema_model.", network(2))}},
    {**under("model.", network(1)), **under("model_ema.", network(2))},
    {
        **network(1),
        **{f"{name}/ExponentialMovingAverage": array for name, array in network(2).items()},
    },
    {"net": network(1), "averaged": under("module.", network(2))},
]


@pytest.mark.parametrize("checkpoint", AVERAGES, ids=range(len(AVERAGES)))
def test_moving_averages_are_taken_and_said_unless_the_raw_arrays_are_asked_for(checkpoint):
    averaged, raw = (
        select_arrays(checkpoint, WANTED),
        select_arrays(checkpoint, WANTED, parameters="raw"),
    )
    assert is_network(averaged, 2)
    assert is_network(raw, 1)
    assert {*averaged.arrays} == {*raw.arrays} == {*WANTED}
    assert any("averag" in note and "are taken" in note for note in averaged.notes)
    assert any("raw" in note and "are taken" in note for note in raw.notes)


def test_averages_of_parameters_alone_are_joined_with_the_raw_statistics():
    own = {name: array for name, array in network(2).items() if not name.endswith("mean")}
    found = select_arrays({"model": network(1), "model_ema": own}, WANTED)
    assert found.arrays["conv1.weight"][0, 0] == 2
    assert found.arrays["conv1.mean"][0, 0] == 1
    assert "averaged are 8 of the network's 12 arrays; the others are the raw ones" in found.notes


def test_names_that_only_look_like_averages_are_none():
    for name in ("schema.", "cinema_model.", "emanuel."):
        assert select_arrays(under(name, network()), WANTED, parameters="raw").arrays.keys() == {
            *WANTED
        }


def test_averages_alone_are_taken_and_refused_as_raw_arrays():
    assert is_network(select_arrays({"ema": network(2)}, WANTED), 2)
    with pytest.raises(DataError, match="averaged arrays alone"):
        select_arrays({"ema": network(2)}, WANTED, parameters="raw")


def test_two_networks_that_fit_are_refused_and_two_copies_are_one():
    with pytest.raises(
        DataError,
        match=(
            r"two networks that fit, encoder_q\.\* and encoder_k|two networks that fit, "
            r"encoder_k\.\* and encoder_q"
        ),
    ):
        select_arrays(
            {**under("encoder_q.", network(1)), **under("encoder_k.", network(2))}, WANTED
        )
    assert is_network(select_arrays({"model": network(1), "copy": network(1)}, WANTED))


def test_arrays_outside_of_the_prefix_are_named():
    found = select_arrays({**under("model.", network()), "criterion.weight": np.ones(3)}, WANTED)
    assert "not used are 1 arrays that are not under model.*: criterion.weight" in found.notes


def test_a_checkpoint_without_arrays_is_refused_with_its_top_level_keys():
    with pytest.raises(
        DataError, match="no arrays by name in it; at its top level are epoch, arch, optimizer"
    ):
        select_arrays(
            {"epoch": 3, "arch": "resnet18", "optimizer": {"state": {0: {"m": np.zeros(3)}}}},
            WANTED,
        )


def test_arrays_of_another_network_are_left_for_the_comparison_of_names():
    other = {"features.0.weight": np.ones((2, 2)), "features.0.bias": np.ones(2)}
    assert (
        select_arrays({"state_dict": other, "x": {"y": np.ones(3)}}, WANTED).arrays.keys()
        == other.keys()
    )
