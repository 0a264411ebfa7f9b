"""Batch normalisation over N examples (Ioffe & Szegedy 2015, arXiv:1502.03167)."""

from typing import ClassVar, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.moments import Moments, grouped, moments_of, moving_average, normalise


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
    is_batch_norm: ClassVar[bool] = True
    """Whether it rises or falls with each channel on its own, and takes `moments`: what rewrites ask of a norm's own class."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, moments: Moments | None = None, mask: jax.Array | None = None) -> jax.Array:
        """Normalises `x` of shape [B, ..., C], by its groups' moments or by those that are given.

        Args:
          moments: of the groups, under the same mask.
          mask: [B], true for the examples that the statistics are of; all of them where not given. The others are normalised too. A
            group of none of them is normalised with the variance 0 about 0, and has no part in the running statistics.

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
            return normalise(x.astype(dtype), running_mean.value, running_var.value + self.epsilon, scale, bias).astype(x.dtype)
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                "train=True updates the running statistics, but the collection 'batch_stats' is not mutable: call "
                "network.apply(..., train=True, mutable=['batch_stats']) and keep what it returns, or pass train=False"
            )
        mean, var, m = moments or self.moments(x, running_mean.value, mask)
        if not self.is_initializing():
            bessel = 1.0 if self.running_variance == "biased" else m / (jnp.maximum(m - 1, 1) if mask is not None else max(m - 1, 1))
            running_mean.value = moving_average(running_mean.value, mean, m, self.decay)
            running_var.value = moving_average(running_var.value, var * bessel, m, self.decay)
        values = grouped(x, self.examples_per_group).astype(dtype)
        return normalise(values, mean, var + self.epsilon, scale, bias).reshape(x.shape).astype(x.dtype)

    def moments(self, x: jax.Array, near: jax.Array, mask: jax.Array | None = None) -> Moments:
        """Of each group of `x`. `near`, a guess of the means, has the shape of what is learned: [C], or a value for each position too."""
        return moments_of(x, near, mask, examples=self.examples_per_group, passes=self.passes)
