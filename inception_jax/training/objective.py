"""The training objective and the metrics, as sums over examples that are divided once."""

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
"""(logits [B, K], labels [B]) -> a number for each example [B]."""
Sums = dict[str, jax.Array]


def make_top_k_metric(k: int) -> Metric:
    """Returns a metric that is 1 if the label is among the k largest logits, and else 0.

    Of equal logits the lower class counts as larger, as in `jax.lax.top_k`. NaN counts as larger
    than the label, so that broken logits never score.
    """

    def is_in_top_k(logits: jax.Array, labels: jax.Array) -> jax.Array:
        label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        is_lower_class = jnp.arange(logits.shape[-1]) < labels[:, None]
        is_ahead = (logits > label_logits) | ((logits == label_logits) & is_lower_class)
        return (is_ahead | jnp.isnan(logits)).sum(-1) < k

    return is_in_top_k


METRICS: Mapping[str, Metric] = MappingProxyType(
    {"top1": make_top_k_metric(1), "top5": make_top_k_metric(5)}
)


def cross_entropy(
    logits: jax.Array, targets: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Returns the cross-entropy [B] in nats.

    Args:
      logits: [B, K] in at least float32.
      targets: Classes [B] or probabilities [B, K].
      label_smoothing: With e, the target is (1 - e) * one-hot + e / K (arXiv:1512.00567,
        section 7).

    Raises:
      TypeError: The logits have less than 32 bits.
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


def add_l2_gradient(grads: Any, params: Any, l2: float) -> Any:
    """Returns the gradients of the loss plus l2 / 2 times the sum of squares of the kernels."""
    if not l2:
        return grads

    def add(grad: jax.Array, param: jax.Array, is_kernel: bool) -> jax.Array:
        return grad + l2 * param if is_kernel else grad

    return jax.tree.map(add, grads, params, mask_kernels(params))


def mask_kernels(params: Any) -> Any:
    """Returns a tree of booleans: True for the kernels of convolutions and matrix products."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)


def sum_metrics(
    logits: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    losses: jax.Array,
    metrics: Mapping[str, Metric] = METRICS,
) -> Sums:
    """Returns weighted sums over the batch: `loss`, each metric, and the `count` to divide by."""
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
    """Returns the mean objective and the sums of metrics over the batch.

    The objective is the smoothed cross-entropy of the main classifier plus `aux_weight` times that
    of each auxiliary head; its sum is the metric `objective`. `loss` and the other metrics are of
    the main classifier and unsmoothed labels, as in evaluation. L2 is part of neither:
    `add_l2_gradient` adds its gradient.

    Args:
      targets: Classes [B]; or probabilities [B, K] for blended images, whose label is the likeliest
        class.
      weights: [B], 0 for padding.
    """
    logits = outputs.logits
    assert logits is not None, "the network stopped before its classifier"
    losses = cross_entropy(logits, targets, label_smoothing=label_smoothing)
    for aux in outputs.aux:
        losses = losses + aux_weight * cross_entropy(aux, targets, label_smoothing=label_smoothing)
    labels = targets if targets.ndim == 1 else targets.argmax(-1)
    total, plain_losses = (weights * losses).sum(), cross_entropy(logits, labels)
    sums = sum_metrics(logits, labels, weights, plain_losses, metrics)
    return total / jnp.maximum(weights.sum(), 1), {"objective": total, **sums}
