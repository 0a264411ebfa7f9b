"""What is minimised, and what is counted: sums over examples, divided once at the end."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from inception_jax.nn.network import Outputs

Metric = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits [B, K], labels [B]) -> one number per example [B]."""
Sums = dict[str, jax.Array]


def make_top_k_metric(k: int) -> Metric:
    """Metric: 1 where the label is among the k largest logits. Of equal logits the lower class counts as larger, as in
    `jax.lax.top_k`; NaN is larger than the label, so numbers gone wrong never score."""

    def hit(logits: jax.Array, labels: jax.Array) -> jax.Array:
        true = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        earlier = jnp.arange(logits.shape[-1]) < labels[:, None]
        ahead = (logits > true) | ((logits == true) & earlier) | jnp.isnan(logits)
        return ahead.sum(-1) < k

    return hit


METRICS: Mapping[str, Metric] = MappingProxyType(
    {"top1": make_top_k_metric(1), "top5": make_top_k_metric(5)}
)


def cross_entropy(
    logits: jax.Array, targets: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Cross-entropy [B] in nats, of `logits` [B, K] in at least float32; `targets` are classes [B] or probabilities [B, K].

    With smoothing e the target is (1 - e) one-hot + e / K (arXiv:1512.00567, section 7).
    """
    chex.assert_rank([logits, targets], [2, {1, 2}])
    chex.assert_equal_shape_prefix((logits, targets), targets.ndim)
    if logits.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"logits are {logits.dtype}: a softmax over them needs at least float32")
    if targets.ndim == 1:
        if not label_smoothing:
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))


def add_l2_gradient(gradient: Any, params: Any, l2: float) -> Any:
    """The gradient of a loss that has gained l2 / 2 times the sum of squares of the kernels."""
    if not l2:
        return gradient
    return jax.tree.map(
        lambda slope, value, kernel: slope + l2 * value if kernel else slope,
        gradient,
        params,
        mask_kernels(params),
    )


def mask_kernels(params: Any) -> Any:
    """A tree of booleans: which of `params` are kernels of convolutions and matrix products."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)


def sum_metrics(
    logits: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    losses: jax.Array,
    metrics: Mapping[str, Metric] = METRICS,
) -> Sums:
    """Weighted sums over the batch: `loss`, each metric, and the `count` to divide them by."""
    sums = {name: (weights * metric(logits, labels)).sum() for name, metric in metrics.items()}
    return {"loss": (weights * losses).sum(), **sums, "count": weights.sum()}


def classification_loss(
    outputs: "Outputs",
    targets: jax.Array,
    weights: jax.Array,
    *,
    label_smoothing: float = 0.0,
    aux_weight: float = 0.3,
    metrics: Mapping[str, Metric] = METRICS,
) -> tuple[jax.Array, Sums]:
    """Returns the mean of what is minimised, and sums over the batch.

    What is minimised is the smoothed cross-entropy of the main classifier, and that of each auxiliary head times `aux_weight`: its sum is
    `objective`. `loss` and the metrics are of the main classifier and the labels alone, as evaluation has them. L2 is part of neither:
    `add_l2_gradient` adds its gradient.

    Args:
      targets: classes [B], or probabilities [B, K] where images are blends; the likelier class is then the label.
      weights: [B], 0 for what is no example.
    """
    logits = outputs.logits
    assert logits is not None, "the network stopped before its classifier"
    losses = cross_entropy(logits, targets, label_smoothing=label_smoothing)
    for aux in outputs.aux:
        losses = losses + aux_weight * cross_entropy(aux, targets, label_smoothing=label_smoothing)
    labels = targets if targets.ndim == 1 else targets.argmax(-1)
    total, hard = (weights * losses).sum(), cross_entropy(logits, labels)
    return total / jnp.maximum(weights.sum(), 1), {
        "objective": total,
        **sum_metrics(logits, labels, weights, hard, metrics),
    }
