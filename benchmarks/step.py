"""The training step for comparisons: forward, softmax cross-entropy, backward, RMSProp.

RMSProp has momentum. There are no auxiliary head, average, L2 or preparation of the input.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax

LEARNING_RATE, DECAY, EPSILON, MOMENTUM = 1e-3, 0.9, 1.0, 0.9
"""Small enough for many steps on one batch: diverged numbers cost a GPU less power, and so less
time.
"""
OPTIMIZER = optax.rmsprop(LEARNING_RATE, decay=DECAY, eps=EPSILON, momentum=MOMENTUM)


def step_of(network: nn.Module) -> Callable[..., tuple[Any, Any, Any, jax.Array]]:
    """Returns (params, statistics, opt_state, images, labels) -> the first three and the loss."""

    def loss(params, stats, images, labels):
        outputs, updated = network.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, labels
        ).mean(), updated["batch_stats"]

    def step(params, stats, state, images, labels):
        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(
            params, stats, images, labels
        )
        updates, state = OPTIMIZER.update(gradients, state, params)
        return optax.apply_updates(params, updates), stats, state, value

    return step
