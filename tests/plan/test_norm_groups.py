"""Norm groups: their number, and the devices that each spans."""

from dataclasses import replace

import pytest

from benchmarks.small_networks import small
from inception_jax.config import ConfigError, Norm
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.plan.norm_groups import compute_norm_groups, round_up_batch_size
from inception_jax.plan.outline import with_placeholder_data
from inception_jax.recipes import load_recipe


@pytest.mark.parametrize(
    ("examples", "devices", "number", "spanned"),
    [
        (0, 1, 1, 1),
        (0, 8, 1, 8),
        (4, 8, 8, 1),
        (2, 8, 16, 1),
        (8, 8, 4, 2),
        (16, 4, 2, 2),
        (32, 8, 1, 8),
        (8, 1, 4, 1),
    ],
)
def test_plan_counts_norm_groups_and_the_devices_that_each_spans(
    examples, devices, number, spanned
):
    config = replace(small(), norm=Norm(examples_per_group=examples))
    groups = compute_norm_groups(Run(config, all_devices_placement()), devices)
    assert groups == (examples or 32, number, spanned, 8)


@pytest.mark.parametrize(
    ("examples", "batch", "devices"),
    [(32, 96, 4), (32, 64, 8), (12, 48, 6), (6, 48, 12), (10, 40, 8)],
)
def test_plan_counts_the_devices_of_norm_groups_that_cross_device_borders(examples, batch, devices):
    rows = [set(range(i * batch // devices, (i + 1) * batch // devices)) for i in range(devices)]
    touched = [
        sum(bool(own & set(range(first, first + examples))) for own in rows)
        for first in range(0, batch, examples)
    ]
    config = replace(small(), norm=Norm(examples_per_group=examples), batch_size=batch)
    groups = compute_norm_groups(Run(config, all_devices_placement()), devices)
    assert groups.devices_per_group == max(touched)


def test_norm_groups_that_hold_a_single_value_are_refused():
    recipe = load_recipe("inception_v3").config
    config = replace(recipe, norm=replace(recipe.norm, examples_per_group=1))
    run = with_placeholder_data(Run(config, all_devices_placement()))
    message = r"examples_per_group 1 .* too small: AuxLogits.* the variance of one value"
    with pytest.raises(ConfigError, match=message):
        compute_norm_groups(run, 4)
    without_aux = replace(config, model=replace(config.model, aux=False))
    run = with_placeholder_data(Run(without_aux, all_devices_placement()))
    assert compute_norm_groups(run, 4).num_groups == config.batch_size


@pytest.mark.parametrize(
    ("batch", "group", "devices", "planned"),
    [
        (1600, 32, 256, 2048),
        (1600, 32, 8, 1600),
        (96, 32, 48, 96),
        (10, 0, 4, 12),
        (64, 64, 48, 192),
        (1600, 32, 3, 1632),  # a topology such as h100:3
    ],
)
def test_plan_rounds_a_batch_up_to_the_next_size_that_the_devices_divide(
    batch, group, devices, planned
):
    config = replace(small(), batch_size=batch, norm=Norm(examples_per_group=group))
    assert round_up_batch_size(config, devices).batch_size == planned
