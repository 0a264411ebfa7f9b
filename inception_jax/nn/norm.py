"""Batch normalisation over N examples (Ioffe & Szegedy 2015, arXiv:1502.03167), and the moments of groups in two passes or in one."""

from typing import ClassVar, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

Mask = jax.Array | None
"""Of values to take moments of, broadcast to them: those that count; None where all of them do."""


class Moments(NamedTuple):
    """Of groups of values: mean and biased variance, [groups, 1, ..., C], and how many values each is of.

    With a mask the number is an array, [groups, 1, ..., 1]; a group of none has the mean and the variance 0.
    """

    mean: jax.Array
    variance: jax.Array
    values: int | jax.Array


def group_examples(x: jax.Array, examples: int) -> jax.Array:
    """Returns `x` [B, ...] as [B / N, N, ...], groups of so many examples, 0 for the whole batch.

    Raises:
      ValueError: they do not divide the batch.
    """
    batch, group = len(x), examples or len(x)
    if batch % group:
        raise ValueError(
            f"batch normalisation over {group} examples cannot split a batch of {batch}: choose a batch size that "
            f"is a multiple of {group}, or an examples_per_group that divides {batch} (0 for the whole batch)"
        )
    return x.reshape(-1, group, *x.shape[1:])


def update_moving_average(
    running: jax.Array, of_groups: jax.Array, values: int | jax.Array, decay: float
) -> jax.Array:
    """Returns the running statistics after those of groups of so many `values`; a group of none has no part in them."""
    axes = tuple(range(of_groups.ndim - running.ndim))
    if isinstance(values, int):
        return decay * running + (1 - decay) * of_groups.mean(axes)
    filled = values > 0
    average = of_groups.mean(axes, where=jnp.broadcast_to(filled, of_groups.shape))
    return jnp.where(filled.any(), decay * running + (1 - decay) * average, running)


def masked_mean(x: jax.Array, axes: tuple[int, ...], mask: Mask) -> jax.Array:
    """Returns the mean of the values that count, 0 where there are none; what does not count may be anything, NaN too."""
    if mask is None:
        return x.mean(axes, keepdims=True)
    total = jnp.where(mask, x, 0).sum(axes, keepdims=True)
    return total / jnp.maximum(count_values(x, axes, mask), 1).astype(total.dtype)


def count_values(x: jax.Array, axes: tuple[int, ...], mask: jax.Array) -> jax.Array:
    """Returns how many values of each group count."""
    return jnp.broadcast_to(mask, (*x.shape[:-1], 1)).sum(axes, keepdims=True)


def two_pass_moments(
    x: jax.Array, axes: tuple[int, ...], near: jax.Array, mask: Mask = None
) -> tuple[jax.Array, jax.Array]:
    """The variance from the differences from the mean: as many digits as there are, wherever the mean is.

    In float32 the form E[x^2] - E[x]^2 is 6 % off where the mean is 1,000 deviations, and has lost all digits at 10,000.
    """
    mean = masked_mean(x, axes, mask)
    return mean, masked_mean(jnp.square(x - mean), axes, mask)


def single_pass_moments(
    x: jax.Array, axes: tuple[int, ...], near: jax.Array, mask: Mask = None
) -> tuple[jax.Array, jax.Array]:
    """Both about `near`, which is known before `x` is: what computes `x` can add both up as it goes, and `x` is not read again.

    A mean `d` deviations away from there costs the variance the digits of d^2: at 10 two of float32's seven. So it is right where
    `near` is the running mean of earlier batches.
    """
    x = x - jax.lax.stop_gradient(near)
    offset = masked_mean(x, axes, mask)
    variance = masked_mean(jnp.square(x), axes, mask) - jnp.square(offset)
    return offset + jax.lax.stop_gradient(near), jnp.maximum(variance, 0)


def compute_moments(
    x: jax.Array, near: jax.Array, mask: Mask, *, examples: int, passes: int
) -> Moments:
    """Returns the moments of each group of `x` [B, ..., C].

    Args:
      near: a guess of the means, in the shape of what is learned: [C], or a value for each position too.
      mask: [B], true for the examples that count.
    """
    values = group_examples(x, examples).astype(near.dtype)
    axes = tuple(range(1, values.ndim - near.ndim))
    if mask is not None:
        chex.assert_shape(mask, x.shape[:1])
        mask = group_examples(mask.astype(bool).reshape(-1, *(1 for _ in x.shape[1:])), examples)
    mean, variance = (single_pass_moments if passes == 1 else two_pass_moments)(
        values, axes, near, mask
    )
    return Moments(
        mean,
        variance,
        values.size // mean.size if mask is None else count_values(values, axes, mask),
    )


def normalise(
    x: jax.Array, mean: jax.Array, variance: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """Returns `x` with this mean and variance (epsilon included) taken out, and this scale and bias put in."""
    return (x - mean) * (jax.lax.rsqrt(variance) * scale) + bias


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
      passes: over a batch for its moments: two, or one about the running mean.
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
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        moments: Moments | None = None,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises `x` of shape [B, ..., C], by its groups' moments or by those that are given.

        Args:
          moments: of the groups, under the same mask.
          mask: [B], true for the examples that the statistics are of; all of them where not given. The others are normalised too. A
            group of none of them is normalised with the variance 0 about 0, and has no part in the running statistics.

        Raises:
          ValueError: `train=True` where `batch_stats` is not mutable, or a batch that groups do not divide.
        """
        chex.assert_type(x, float)
        shape, dtype = (
            x.shape[1 if self.per_activation else -1 :],
            jnp.promote_types(x.dtype, jnp.float32),
        )
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        scale = (
            self.param("scale", nn.initializers.constant(self.scale_init), shape, dtype)
            if self.use_scale
            else jnp.ones((), dtype)
        )
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        if not train or self.frozen:
            return normalise(
                x.astype(dtype), running_mean.value, running_var.value + self.epsilon, scale, bias
            ).astype(x.dtype)
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                "train=True updates the running statistics, but the collection 'batch_stats' is not mutable: call "
                "network.apply(..., train=True, mutable=['batch_stats']) and keep what it returns, or pass train=False"
            )
        mean, var, m = moments or compute_moments(
            x, running_mean.value, mask, examples=self.examples_per_group, passes=self.passes
        )
        if not self.is_initializing():
            bessel = (
                1.0
                if self.running_variance == "biased"
                else m / (jnp.maximum(m - 1, 1) if mask is not None else max(m - 1, 1))
            )
            running_mean.value = update_moving_average(running_mean.value, mean, m, self.decay)
            running_var.value = update_moving_average(
                running_var.value, var * bessel, m, self.decay
            )
        values = group_examples(x, self.examples_per_group).astype(dtype)
        return (
            normalise(values, mean, var + self.epsilon, scale, bias)
            .reshape(x.shape)
            .astype(x.dtype)
        )
