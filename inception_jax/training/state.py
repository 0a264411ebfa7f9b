"""All that a run is, between two steps."""

from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

FORMAT_VERSION = 2
"""Of `State` as it is saved, its small arrays joined; a change to either raises it and adds a map from the old form. (1 was not
released.)"""


class State(flax.struct.PyTreeNode):
    """Arrays only, so that it can be `eval_shape`d, sharded, saved and compared without special cases.

    Attributes:
      step: updates made, int32.
      average: moving averages of `params` and `batch_stats` under those names; empty where none are kept.
      skipped: steps whose loss or gradient was not finite, which changed nothing but this number and `step`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any
    skipped: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """What to evaluate: the averages where they are kept."""
        return self.average or {"params": self.params, "batch_stats": self.batch_stats}


def make_initial_state(
    key: chex.PRNGKey,
    *,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    averaged: bool,
) -> State:
    """The state before the first step. `image_shape` is that of one example."""
    variables = network.init({"params": key}, jnp.zeros((1, *image_shape)), train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    average = {"params": params, "batch_stats": batch_stats} if averaged else {}
    zero = jnp.zeros((), jnp.int32)
    return State(zero, params, batch_stats, optimizer.init(params), average, zero)
