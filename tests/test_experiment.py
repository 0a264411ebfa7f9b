"""Values that a run derives from its configuration, and refusals before anything is compiled."""

from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import pytest

from benchmarks.small_networks import small
from inception_jax.config import ConfigError, Model
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.models import REGISTRY, register
from inception_jax.plan.outline import format_outline
from inception_jax.spec.vocabulary import Architecture, Linear, global_avg, layer, same, table


def of(schedule, **changes):
    config = small("one", **changes)
    return Run(
        replace(config, schedule=replace(config.schedule, **schedule)), all_devices_placement()
    )


def test_periods_are_fractions_of_steps_and_whole_ones_in_runs_of_format_1():
    """1,347 examples in batches of 500, a decay each epoch of 2.694 steps: after 60 epochs, 162
    steps, the rate has fallen 60 times.
    """
    schedule = {"decay_epochs": 1.0, "decay_rate": 0.85, "warmup_epochs": 0.0}
    now, before = (of(schedule, batch_size=500, epochs=61.0, format=number) for number in (2, 1))
    falls = [
        round(float(np.log(run.schedule(step) / run.schedule(0)) / np.log(0.85)))
        for run, step in ((now, 162), (before, 162))
    ]
    assert falls == [60, 54]
    assert float(now.schedule(2)) == float(now.schedule(0))
    assert float(now.schedule(3)) < float(now.schedule(2))


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ({"name": "constant", "warmup_epochs": 1.0}, 41),
        ({"name": "cosine", "warmup_epochs": 1.0}, 42),
        ({"name": "polynomial", "warmup_epochs": 2.0}, 50),
    ],
    ids=["longer than the run", "nothing left to a cosine", "longer than what a polynomial leaves"],
)
def test_a_warm_up_that_the_run_does_not_hold_is_refused(schedule, steps):
    """An epoch is 42.1 steps."""
    neutral = {"decay_rate": 0.94, "decay_epochs": 2.0}
    run = of({**neutral, **schedule}, steps=steps)
    with pytest.raises(
        ConfigError,
        match=(
            r"schedule.warmup_epochs [12] are \d+.* steps, and the run has \d+: give fewer of them"
        ),
    ):
        run.format_summary()
    assert of({**neutral, **schedule, "warmup_epochs": 0.5}, steps=steps).format_summary()
    with pytest.raises(ConfigError, match=r"schedule.warmup_epochs are 5.0, and the run has 4.0"):
        replace(small(epochs=4.0), schedule=replace(small().schedule, warmup_epochs=5.0)).check()


class Scale(nn.Module):
    """Multiplies by 64 numbers that are learned."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return x * self.param("by", nn.initializers.ones, (64,)).mean()


def bare() -> Architecture:
    rows = table(
        Stem=same(4, 3, 2),
        Own=layer("tests.test_experiment:Scale"),
        Pool=global_avg(),
        Logits=Linear(),
    )
    return Architecture("bare_layer", "paper", rows, "a test", 16, num_classes=10)


def test_a_layer_without_shape_functions_runs_and_its_parameters_are_counted():
    if "bare_layer" not in REGISTRY:
        register("bare_layer", paper=bare)
    config = small(batch_size=8, steps=200)
    run = Run(
        replace(config, model=Model("bare_layer"), norm=replace(config.norm, examples_per_group=0)),
        all_devices_placement(),
    )
    counted = sum(leaf.size for leaf in jax.tree.leaves(run.initial_state().params))
    assert counted == 3 * 3 * 3 * 4 + 2 * 4 + 64 + 4 * 10 + 10
    assert f"bare_layer: {counted:,} parameters" in run.format_summary()
    lines = list(format_outline(run, {}))
    assert (
        lines[0]
        == f"model: bare_layer, {counted:,} parameters, an unknown number of multiply-adds an image"
    )
    _, sums = run.train_step(run.initial_state(), next(run.train_batches(0)))
    assert np.isfinite(float(sums["loss"]))


def test_parameters_are_those_of_the_state_without_auxiliary_heads():
    config = small()
    run = Run(
        replace(
            config,
            model=Model("bn_inception_small", aux=True),
            data=replace(config.data, image_size=32),
        ),
        all_devices_placement(),
    )
    assert run.parameters == run.measurement.parameters
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(run.abstract_state().params))
        == run.measurement.parameters + run.measurement.aux_parameters
    )


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**200])
def test_seeds_beyond_63_bits_are_refused(seed):
    with pytest.raises(ConfigError, match=r"seed is \d+: it must be below 2\^63"):
        small(seed=seed).check()


def test_a_seed_of_63_bits_draws_other_weights_examples_and_crops_than_its_lower_bits():
    runs = [
        Run(small("one", seed=seed, batch_size=8), all_devices_placement())
        for seed in (5, 2**32 + 5, 2**62 + 5)
    ]
    orders = [next(run.train_batches(0)).label.tolist() for run in runs]
    weights = [np.asarray(run.initial_state().params["Logits"]["linear"]["kernel"]) for run in runs]
    assert len({tuple(labels) for labels in orders}) == 3
    assert len({kernel.tobytes() for kernel in weights}) == 3
