"""Population statistics: batch normalisation for inference as its paper has it (arXiv:1502.03167, algorithm 2).

The parameters stay as they are; training batches go through the network once more, and what each normalisation saw is
averaged over all of them, instead of followed by a moving average while the parameters changed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import exp
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.data.batches import Batch
from inception_jax.nn.network import Network
from inception_jax.spec.vocabulary import Dropout, rewrite_words

StatisticsKind = Literal["population", "pooled"]


class BatchMoments(NamedTuple):
    """What the normalisations of a network saw in one batch: trees like `batch_stats`, and the mean's square beside it."""

    stats: Any
    squares: Any


def collecting_stats(network: Network, kind: StatisticsKind) -> Network:
    """`network` such that a training pass leaves the batch's own moments in `batch_stats`; it drops nothing out.

    `population` keeps the groups and the m/(m-1) of algorithm 2; `pooled` normalises over whole batches and keeps the plain
    variance, to which that of the means is added.
    """
    norm: dict[str, Any] = {
        "decay": 0.0,
        "running_variance": "unbiased" if kind == "population" else "biased",
    }
    if kind == "pooled":
        norm["examples_per_group"] = 0
    network = without_dropout(network)
    return network.clone(norm=partial(network.norm, **norm))


def without_dropout(network: Network) -> Network:
    """`network` without dropout and auxiliary heads, whose training pass draws nothing, and normalises by the batch where training
    does not."""
    table = rewrite_words(
        network.architecture,
        lambda word: replace(word, rate=0.0) if isinstance(word, Dropout) else word,
    )
    return network.clone(
        architecture=replace(table, aux=()), aux=False, norm=partial(network.norm, frozen=False)
    )


def compute_batch_moments(
    variables: Mapping[str, Any],
    batch: Batch,
    keys: jax.Array,
    *,
    network: Network,
    prepare: Callable[..., Any],
    masked: bool = False,
) -> BatchMoments:
    """One training batch through `network`, which is an `collecting_stats` one; with `masked` without examples of weight 0."""
    images, _ = prepare(batch, keys)
    mask = batch.weight > 0 if masked else None
    _, updated = network.apply(variables, images, train=True, mask=mask, mutable=["batch_stats"])
    stats = updated["batch_stats"]
    return BatchMoments(stats, jax.tree.map(jnp.square, stats))


def average_moments(seen: Iterable[BatchMoments], kind: StatisticsKind) -> Any:
    """`batch_stats` from the moments of many batches, averaged in float64 on the host.

    Raises:
      ValueError: no batches.
    """
    total, count = None, 0
    for one in seen:
        count += 1
        host = jax.tree.map(np.float64, jax.device_get(one))
        total = host if total is None else jax.tree.map(np.add, total, host)
    if total is None:
        raise ValueError("population statistics need at least one batch")
    stats, squares = (flatten_dict(jax.tree.map(lambda x: x / count, tree)) for tree in total)
    for *place, kept in [path for path in stats if kind == "pooled"]:
        if kept == "var":  # and the variance of the means between batches
            stats[*place, "var"] += squares[*place, "mean"] - stats[*place, "mean"] ** 2
    return jax.tree.map(np.float32, unflatten_dict(stats))


class BatchNormDrift(NamedTuple):
    """How far the running statistics of one normalisation are from those of the population."""

    name: str
    mean: float
    """The largest |difference of means|, in deviations of the population."""
    variance: float
    """The largest |log of the ratio of variances|."""
    factor: float
    """By which the worst variance is off."""


def measure_drift(running: Any, population: Any) -> list[BatchNormDrift]:
    """A line for each normalisation, the worst first."""
    found = []
    trees = [flatten_dict(tree) for tree in (running, population)]
    for place in sorted({path[:-1] for path in trees[0]}):
        mean, true_mean, var, true_var = (
            np.float64(tree[*place, kind]) for kind in ("mean", "var") for tree in trees
        )
        true_var = np.maximum(true_var, 1e-12)
        variance = float(np.max(np.abs(np.log(np.maximum(var, 1e-12) / true_var))))
        found.append(
            BatchNormDrift(
                "/".join(place),
                float(np.max(np.abs(mean - true_mean) / np.sqrt(true_var))),
                variance,
                exp(variance),
            )
        )
    return sorted(found, key=lambda one: -max(one.mean, one.variance))
