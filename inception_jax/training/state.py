"""The state of a run between two steps."""

from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

STATE_FORMAT_VERSION = 2
"""Format of a saved `State` with its packed arrays. A change of either increments it and adds a
conversion from the old format. (Version 1 was not released.)"""


class State(flax.struct.PyTreeNode):
    """The arrays of a run, which `eval_shape`, sharding and checkpoints treat alike.

    Attributes:
      step: Number of updates, int32.
      params: Parameters of the network.
      batch_stats: Running statistics of its norms.
      opt_state: State of the optimizer.
      average: Moving averages of `params` and `batch_stats` under these names; empty without
        averaging.
      skipped: Number of steps whose loss or gradient was not finite.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any
    skipped: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """Returns the variables to evaluate: the averages, or without averaging the newest."""
        return self.average or {"params": self.params, "batch_stats": self.batch_stats}


def make_initial_state(
    key: chex.PRNGKey,
    *,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    is_averaged: bool,
) -> State:
    """Returns the state before the first step.

    Args:
      image_shape: (height, width, channels) of one example.
      is_averaged: Whether the run keeps moving averages.
    """
    variables = network.init({"params": key}, jnp.zeros((1, *image_shape)), train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    average = {"params": params, "batch_stats": batch_stats} if is_averaged else {}
    zero = jnp.zeros((), jnp.int32)
    return State(zero, params, batch_stats, optimizer.init(params), average, zero)
