from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import random_variables as invented
from inception_jax.nn.network import Network
from inception_jax.spec.measure import measure
from inception_jax.spec.vocabulary import (
    Linear,
    Residual,
    Unit,
    avg,
    concat,
    global_avg,
    layer,
    max_,
    same,
    table,
    valid,
)
from tests.spec.probes import EXPECTED, probe


@pytest.mark.parametrize("architecture", EXPECTED, ids=lambda architecture: architecture.name)
def test_measured_counts_of_probe_networks_match_counts_by_hand(architecture):
    measured = measure(architecture, num_classes=10)
    body = [place for name, place in measured.end_points.items() if name not in ("Pool", "Logits")][
        -1
    ]
    counts = (body.shape, measured.parameters, measured.batch_stats, measured.multiply_adds)
    assert counts == EXPECTED[architecture]


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["tensorflow", "symmetric"])
def test_the_receptive_field_is_where_the_input_gradient_is_non_zero(padding):
    """All weights are positive and no ReLU is dead, so no gradient inside the field is zero."""
    rows = table(
        A=same(4, 3, 2),
        B=concat((same(4, 1), same(4, (1, 7))), (avg(3), same(4, 1)), same(4, 3)),
        C=same(4, (3, 1), 2),
    )
    architecture = replace(
        probe("field"), layers=rows, unit=Unit(norm=False, same=padding), input_size=64
    )
    network = Network(architecture)
    images = jnp.ones((1, 64, 64, 3))
    variables = jax.tree.map(jnp.abs, invented.variables(network))
    middle = measure(architecture).end_points["C"]

    def sum_of_one_position(images):
        return (
            network.apply(variables, images, end_points=("C",), stop=True)
            .end_points["C"][0, 8, 8]
            .sum()
        )

    touched = np.asarray(jax.grad(sum_of_one_position)(images)[0].sum(-1) != 0)
    for axis, field in enumerate((middle.rows, middle.columns)):
        seen = np.flatnonzero(touched.any(1 - axis))
        assert (seen[0], seen[-1]) == (field.first + 8 * field.jump, field.last + 8 * field.jump)
        assert len(seen) == field.size


def test_measure_names_the_place_of_an_impossible_concatenation():
    broken = probe("broken", Mixed=concat(same(8, 1), (same(8, 1), max_(3, 2))))
    with pytest.raises(
        ValueError, match=r"Mixed: branches of different size.*branch_1 \(4, 4, 8\)"
    ):
        measure(broken)


def test_measure_names_the_place_of_an_unequal_residual_sum():
    with pytest.raises(
        ValueError, match=r"Unit: the shortcut is \(8, 8, 3\) but the branch is \(8, 8, 8\)"
    ):
        measure(probe("broken", Unit=Residual(same(8, 3))))


def test_measure_names_the_place_of_a_window_larger_than_the_map():
    with pytest.raises(
        ValueError, match=r"Conv/conv_9x9: a window of 9 does not fit into 8 pixels"
    ):
        measure(probe("broken", Conv=valid(8, 9)))


def test_measure_names_the_place_of_a_convolution_after_the_global_pool():
    with pytest.raises(ValueError, match=r"B/conv_1x1: needs a map"):
        measure(probe("broken", A=global_avg(), B=same(8, 1)))


def test_measure_uses_the_given_counts_of_an_open_layer_or_leaves_them_unknown():
    def multiply_channels(shape, *, factor):
        return (*shape[:2], shape[2] * factor)

    with_counts = layer(
        "mine:Repeat",
        output_shape=multiply_channels,
        parameters=lambda shape, factor: 7,
        multiply_adds=lambda shape, factor: 5,
        factor=2,
    )
    without_counts = layer("mine:Repeat", output_shape=multiply_channels, factor=2)
    assert measure(probe("open", A=with_counts), num_classes=0).parameters == 7
    assert measure(probe("open", A=with_counts), num_classes=0).multiply_adds == 5
    assert measure(probe("open", A=with_counts)).end_points["A"].shape == (8, 8, 6)
    assert measure(probe("open", A=without_counts)).parameters is None
    with pytest.raises(ValueError, match="output_shape"):
        measure(probe("open", A=layer("mine:Repeat")))


def test_measure_leaves_the_classifier_out_of_a_network_without_classes():
    full, bare = (measure(probe("head", A=same(8, 1)), num_classes=n) for n in (10, 0))
    assert full.parameters - bare.parameters == 8 * 10 + 10
    assert list(bare.end_points.values())[-1].shape == (8,)
    assert "Logits" not in bare.end_points


def test_measure_counts_all_positions_of_a_map_that_a_linear_layer_flattens():
    tower = table(
        A=same(8, 1), B=(Linear(16, norm=True, bias=False, activation="sigmoid"), Linear())
    )
    measured = measure(replace(probe("mlp"), layers=tower), num_classes=10)
    assert measured.parameters == 3 * 8 + 16 + 8 * 8 * 8 * 16 + 2 * 16 + 16 * 10 + 10
