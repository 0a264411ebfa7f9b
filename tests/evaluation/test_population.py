"""Population statistics against NumPy, on a network of two normalised convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random_variables import variables as invented
from inception_jax.data.batches import Batch
from inception_jax.evaluation.population import (
    average_moments,
    collecting_stats,
    compute_batch_moments,
    measure_drift,
    without_dropout,
)
from inception_jax.nn.network import Network
from inception_jax.nn.norm import BatchNorm
from inception_jax.spec.vocabulary import Architecture, Dropout, Linear, global_avg, same, table

TABLE = Architecture(
    "two",
    "paper",
    table(A=same(4, 1), B=same(6, 1), Pool=global_avg(), Dropout=Dropout(0.5), Logits=Linear()),
    source="",
    input_size=5,
)
NETWORK = Network(TABLE, num_classes=3, norm=partial(BatchNorm, examples_per_group=4, decay=0.9))
VARIABLES = invented(NETWORK)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(1, 2, (6, 8, 5, 5, 3)).astype(np.float32)  # six batches of eight


def batches():
    for step, image in enumerate(IMAGES):
        yield Batch(image, np.zeros(8, np.int32), np.ones(8, np.float32), 8 * step + np.arange(8))


def found(kind, network=NETWORK):
    look = jax.jit(
        partial(
            compute_batch_moments,
            network=collecting_stats(network, kind),
            prepare=lambda batch, keys: (batch.image, batch.label),
        )
    )
    return average_moments((look(VARIABLES, batch, None) for batch in batches()), kind)


def numpys(group, kind):
    """1x1 convolutions are matrix products; groups of `group` examples are normalised by their own
    statistics.
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), VARIABLES["params"])
    x, stats = IMAGES.reshape(-1, group, 5, 5, 3).astype(np.float64), {}
    for name in "AB":
        layer = params[name]["conv_1x1"]
        x = x @ layer["kernel"][0, 0]
        mean, var, m = x.mean((1, 2, 3)), x.var((1, 2, 3)), group * 25
        whole = x.reshape(-1, x.shape[-1])
        stats[name] = (
            (mean.mean(0), var.mean(0) * m / (m - 1))
            if kind == "population"
            else (whole.mean(0), whole.var(0))
        )
        norm = layer["norm"]
        x = (x - mean[:, None, None, None]) / np.sqrt(var + TABLE.unit.norm_epsilon)[
            :, None, None, None
        ]
        x = np.maximum(x * norm.get("scale", 1) + norm["bias"], 0)
    return stats


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "group"), [("population", 4), ("pooled", 8)])
def test_population_statistics_over_all_batches_match_numpy(kind, group):
    stats = found(kind)
    for name, (mean, var) in numpys(group, kind).items():
        norm = stats[name]["conv_1x1"]["norm"]
        np.testing.assert_allclose(norm["mean"], mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(norm["var"], var, rtol=1e-5)


@pytest.mark.parametrize("kind", ["population", "pooled"])
def test_population_statistics_are_the_same_for_frozen_norms(kind):
    frozen = NETWORK.clone(norm=partial(NETWORK.norm, frozen=True))
    jax.tree.map(np.testing.assert_array_equal, found(kind, frozen), found(kind))


def test_scoring_by_batch_statistics_ignores_that_norms_are_frozen():
    frozen = NETWORK.clone(norm=partial(NETWORK.norm, frozen=True))
    by_batch, by_running = (
        network.apply(VARIABLES, IMAGES[0], train=train, mutable=["batch_stats"])[0].logits
        for network, train in ((without_dropout(frozen), True), (frozen, False))
    )
    np.testing.assert_array_equal(
        by_batch,
        without_dropout(NETWORK)
        .apply(VARIABLES, IMAGES[0], train=True, mutable=["batch_stats"])[0]
        .logits,
    )
    assert np.abs(by_batch - by_running).max() > 0.01


def test_population_statistics_require_at_least_one_batch():
    with pytest.raises(ValueError, match="at least one batch"):
        average_moments([], "population")


@pytest.mark.parametrize("what", ["mean", "var"])
def test_batch_norm_drift_names_the_layer_with_stale_statistics(what):
    population = found("population")
    stale = jax.tree.map(jnp.asarray, population)
    norm = stale["B"]["conv_1x1"]["norm"]
    norm[what] = (
        norm[what].at[2].add(2 * jnp.sqrt(norm["var"][2]) if what == "mean" else norm["var"][2])
    )
    first, second = measure_drift(stale, population)
    assert first.name == "B/conv_1x1/norm"
    assert first.mean == pytest.approx(2 if what == "mean" else 0, abs=1e-4)
    assert first.factor == pytest.approx(2 if what == "var" else 1, abs=1e-4)
    assert (second.mean, second.variance) == (0, 0)
