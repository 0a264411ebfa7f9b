"""Batch normalisation over N examples (Ioffe & Szegedy 2015, arXiv:1502.03167)."""

from typing import Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.moments import MOMENTS, Moments


class BatchNorm(nn.Module):
    """Normalises `[B, ..., C]` over groups of examples and all positions; algorithm 1 in training, 2 in evaluation.

    The statistics of a group are those of its own examples, whatever devices they lie on: the batch is reshaped to
    `[B / N, N, ..., C]`, whose leading axis stays on the data axis of a mesh. Where N divides a device's share, nothing
    is communicated.

    Moments, scale and shift are computed in at least float32; the output has the input's dtype.

    Attributes:
      examples_per_group: N, the examples that share statistics while training; 0 for the whole batch.
      decay: fraction of the running statistics that a step keeps (PyTorch's momentum is 1 - decay).
      epsilon: added to the variance.
      use_scale: learn gamma, from `scale_init`; without it gamma is 1.
      running_variance: `unbiased` keeps the m/(m-1)-corrected variance (TF, PyTorch, algorithm 2), `biased` the plain
        one (Keras, Flax). The batch itself is always normalised with the biased one.
      frozen: normalise with the running statistics while training too, and leave them as they are: for fine-tuning.
      per_activation: statistics, gamma and beta for each position, over the examples alone (section 3.2's contrast to the
        convolutional form; the last layers of the paper's ensemble).
      passes: over a batch for its moments (`nn.moments`).
    """

    examples_per_group: int = 0
    decay: float = 0.9
    epsilon: float = 1e-3
    use_scale: bool = True
    scale_init: float = 1.0
    running_variance: Literal["unbiased", "biased"] = "unbiased"
    frozen: bool = False
    per_activation: bool = False
    passes: Literal[1, 2] = 2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, moments: Moments | None = None) -> jax.Array:
        """Normalises `x` of shape [B, ..., C], by its groups' moments or by those that are given.

        Raises:
          ValueError: `train=True` where `batch_stats` is not mutable, or a batch that groups do not divide.
        """
        chex.assert_type(x, float)
        shape, dtype = x.shape[1 if self.per_activation else -1 :], jnp.promote_types(x.dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        scale = self.param("scale", nn.initializers.constant(self.scale_init), shape, dtype) if self.use_scale else jnp.ones((), dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        if not train or self.frozen:
            return _normalise(x.astype(dtype), running_mean.value, running_var.value + self.epsilon, scale, bias).astype(x.dtype)
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                "train=True updates the running statistics, but the collection 'batch_stats' is not mutable: call "
                "network.apply(..., train=True, mutable=['batch_stats']) and keep what it returns, or pass train=False"
            )
        mean, var, m = moments or self.moments(x, running_mean.value)
        if not self.is_initializing():
            bessel = m / max(m - 1, 1) if self.running_variance == "unbiased" else 1.0
            self._follow(running_mean, mean)
            self._follow(running_var, var * bessel)
        return _normalise(self._grouped(x).astype(dtype), mean, var + self.epsilon, scale, bias).reshape(x.shape).astype(x.dtype)

    def moments(self, x: jax.Array, near: jax.Array) -> Moments:
        """Of each group of `x`. `near`, a guess of the means, has the shape of what is learned: [C], or a value for each position too."""
        grouped = self._grouped(x).astype(near.dtype)
        mean, variance = MOMENTS[self.passes](grouped, tuple(range(1, grouped.ndim - near.ndim)), near)
        return Moments(mean, variance, grouped.size // mean.size)

    def _grouped(self, x: jax.Array) -> jax.Array:
        batch = x.shape[0]
        group = self.examples_per_group or batch
        if batch % group:
            raise ValueError(
                f"batch normalisation over {group} examples cannot split a batch of {batch}: choose a batch size that "
                f"is a multiple of {group}, or an examples_per_group that divides {batch} (0 for the whole batch)"
            )
        return x.reshape(batch // group, group, *x.shape[1:])

    def _follow(self, running: nn.Variable, of_groups: jax.Array) -> None:
        average = of_groups.mean(tuple(range(of_groups.ndim - running.value.ndim)))
        running.value = self.decay * running.value + (1 - self.decay) * average


def _normalise(x, mean, var, scale, bias):
    return (x - mean) * (jax.lax.rsqrt(var) * scale) + bias
