"""A linear classifier on the pooled features of a trained network: the head of fine-tuning."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inception_jax.training.objective import cross_entropy

MAX_ITERATIONS = 200
TOLERANCE = 1e-5
"""Largest gradient, of any weight, at which the fit ends."""


class LinearClassifier(NamedTuple):
    """A linear classifier.

    Attributes:
      kernel: [D, K] float32.
      bias: [K] float32.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns the likeliest class [N] for features [N, D]."""
        return np.argmax(features @ self.kernel + self.bias, -1)


def fit_classifier(
    features: np.ndarray, labels: np.ndarray, num_classes: int, *, l2: float
) -> LinearClassifier:
    """Returns the classifier with the least mean cross-entropy plus L2, by L-BFGS.

    Features are centred and divided by their mean deviation first, so that `l2` means the same for
    every network; the result is for the features as they are. One scale for all: a feature that is
    almost constant on these images is not noise made large. The problem is convex: the result
    depends on no seed.

    Args:
      features: [N, D].
      labels: [N], each from 0 to `num_classes` - 1.
      l2: The loss gains l2 / 2 * sum(kernel^2), for scaled features.
    """
    mean, deviation = features.mean(0), float(np.sqrt(features.var(0).mean())) or 1.0
    scaled, targets = jnp.asarray((features - mean) / deviation), jnp.asarray(labels)

    def compute_loss(params: Mapping[str, jax.Array]) -> jax.Array:
        logits = scaled @ params["kernel"] + params["bias"]
        return cross_entropy(logits, targets).mean() + l2 / 2 * (params["kernel"] ** 2).sum()

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(compute_loss)

    def is_unfinished(carry: Any) -> jax.Array:
        _, state = carry
        grads, count = optax.tree.get(state, "grad"), optax.tree.get(state, "count")
        largest = optax.tree.norm(grads, ord=np.inf)
        return (count == 0) | ((count < MAX_ITERATIONS) & (largest > TOLERANCE))

    def iterate(carry: Any) -> Any:
        params, state = carry
        value, grads = value_and_grad(params, state=state)
        updates, state = optimizer.update(
            grads, state, params, value=value, grad=grads, value_fn=compute_loss
        )
        return optax.apply_updates(params, updates), state

    @jax.jit
    def fit(params: Any) -> Any:
        return jax.lax.while_loop(is_unfinished, iterate, (params, optimizer.init(params)))[0]

    zero = {
        "kernel": jnp.zeros((features.shape[1], num_classes)),
        "bias": jnp.zeros(num_classes),
    }
    found = jax.device_get(fit(zero))
    kernel = found["kernel"] / deviation
    return LinearClassifier(
        np.asarray(kernel, np.float32), np.asarray(found["bias"] - mean @ kernel, np.float32)
    )
