"""Population statistics for inference (arXiv:1502.03167, algorithm 2).

Training batches pass through the network once more with fixed parameters, and the moments of each
normalisation are averaged over all of them. The running statistics of training average over
changing parameters.
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
    """The moments of one batch in all norms of a network.

    Attributes:
      stats: A tree like `batch_stats`.
      squares: The squares of the means.
    """

    stats: Any
    squares: Any


def collecting_stats(network: Network, kind: StatisticsKind) -> Network:
    """Returns `network` without dropout; its training pass writes moments to `batch_stats`.

    Args:
      kind: `population` keeps the groups and the factor m/(m-1) of algorithm 2; `pooled` normalises
        over whole batches, and adds the variance of the means to the plain variance.
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
    """Returns `network` without dropout and auxiliary heads.

    Its training pass is deterministic, and normalises with the batch where training does.
    """
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
    """Returns the moments of one training batch.

    Args:
      network: A network from `collecting_stats`.
      masked: Whether examples of weight 0 are left out.
    """
    images, _ = prepare(batch, keys)
    mask = batch.weight > 0 if masked else None
    _, updated = network.apply(variables, images, train=True, mask=mask, mutable=["batch_stats"])
    stats = updated["batch_stats"]
    return BatchMoments(stats, jax.tree.map(jnp.square, stats))


def average_moments(seen: Iterable[BatchMoments], kind: StatisticsKind) -> Any:
    """Returns `batch_stats` from the moments of many batches, averaged in float64 on the host.

    Raises:
      ValueError: There are no batches.
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
    """The drift of one norm's running statistics from those of the population."""

    name: str
    mean: float
    """The largest |difference of means|, in deviations of the population."""
    variance: float
    """The largest |log of the ratio of variances|."""
    factor: float
    """The ratio of that variance to the population's."""


def measure_drift(running: Any, population: Any) -> list[BatchNormDrift]:
    """Returns the drift of each norm from the population's statistics, the largest first."""
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
