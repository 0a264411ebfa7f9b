"""Batch normalisation over N examples (Ioffe & Szegedy 2015, arXiv:1502.03167)."""

from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

Mask = jax.Array | None
"""True for the values that count towards moments, broadcast to them; None where all do."""
FusedNorm = Callable[..., tuple[jax.Array, "Moments"]]
"""(x, scale, bias, reference_mean, mask, examples, epsilon) -> (output, moments of `x`)."""


class Moments(NamedTuple):
    """Moments of groups of values.

    Attributes:
      mean: [groups, 1, ..., C]; 0 for a group without values.
      variance: The biased variance, in the shape of `mean`; 0 for a group without values.
      values: Number of values of each group; with a mask an array [groups, 1, ..., 1].
    """

    mean: jax.Array
    variance: jax.Array
    values: int | jax.Array


def group_examples(x: jax.Array, examples: int) -> jax.Array:
    """Returns `x` [B, ...] as [B / N, N, ...], groups of N = `examples` (0 for the whole batch).

    Raises:
      ValueError: N does not divide B.
    """
    batch, group = len(x), examples or len(x)
    if batch % group:
        raise ValueError(
            f"batch normalisation over {group} examples cannot split a batch of {batch}: choose a "
            f"batch size that is a multiple of {group}, or an examples_per_group that divides "
            f"{batch} (0 for the whole batch)"
        )
    return x.reshape(-1, group, *x.shape[1:])


def update_moving_average(
    running: jax.Array, of_groups: jax.Array, values: int | jax.Array, decay: float
) -> jax.Array:
    """Returns the running statistics after an update by the mean over groups.

    Args:
      running: Running statistics, [..., C].
      of_groups: Statistics of the groups, [groups, 1, ..., C].
      values: Number of values of each group. Groups of none are left out.
      decay: Fraction of the running statistics to keep.
    """
    axes = tuple(range(of_groups.ndim - running.ndim))
    if isinstance(values, int):
        return decay * running + (1 - decay) * of_groups.mean(axes)
    is_filled = values > 0
    average = of_groups.mean(axes, where=jnp.broadcast_to(is_filled, of_groups.shape))
    return jnp.where(is_filled.any(), decay * running + (1 - decay) * average, running)


def masked_mean(x: jax.Array, axes: tuple[int, ...], mask: Mask) -> jax.Array:
    """Returns the mean of the values under `mask`, 0 where there are none.

    Values outside the mask may be anything, also NaN.
    """
    if mask is None:
        return x.mean(axes, keepdims=True)
    total = jnp.where(mask, x, 0).sum(axes, keepdims=True)
    return total / jnp.maximum(count_values(x, axes, mask), 1).astype(total.dtype)


def count_values(x: jax.Array, axes: tuple[int, ...], mask: jax.Array) -> jax.Array:
    """Returns the number of values of each group under `mask`."""
    return jnp.broadcast_to(mask, (*x.shape[:-1], 1)).sum(axes, keepdims=True)


def two_pass_moments(
    x: jax.Array, axes: tuple[int, ...], reference_mean: jax.Array, mask: Mask = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the mean, and the variance as the mean square difference from it.

    Note: In float32 the form E[x^2] - E[x]^2 is 6 % off where the mean is 1,000 deviations from 0,
    and has no correct digit at 10,000. This form has full precision for every mean.
    """
    mean = masked_mean(x, axes, mask)
    return mean, masked_mean(jnp.square(x - mean), axes, mask)


def single_pass_moments(
    x: jax.Array, axes: tuple[int, ...], reference_mean: jax.Array, mask: Mask = None
) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance from the first two moments about `reference_mean`.

    `reference_mean` is known before `x`, so the kernel that computes `x` can sum both moments, and
    `x` is not read again.

    Note: A mean of d deviations from `reference_mean` costs the variance the digits of d^2: at
    d = 10 two of float32's seven. The running mean of earlier batches is close enough.
    """
    x = x - jax.lax.stop_gradient(reference_mean)
    offset = masked_mean(x, axes, mask)
    variance = masked_mean(jnp.square(x), axes, mask) - jnp.square(offset)
    return offset + jax.lax.stop_gradient(reference_mean), jnp.maximum(variance, 0)


def compute_moments(
    x: jax.Array, reference_mean: jax.Array, mask: Mask, *, examples: int, passes: int
) -> Moments:
    """Returns the moments of each group of `x` [B, ..., C], in the dtype of `reference_mean`.

    Args:
      reference_mean: An estimate of the mean in the shape of gamma: [C], or [..., C] for a mean of
        each position.
      mask: [B], true for the examples that count.
      examples: Examples of a group; 0 for the whole batch.
      passes: 2 for `two_pass_moments`, 1 for `single_pass_moments`.
    """
    values = group_examples(x, examples).astype(reference_mean.dtype)
    axes = tuple(range(1, values.ndim - reference_mean.ndim))
    if mask is not None:
        chex.assert_shape(mask, x.shape[:1])
        mask = group_examples(mask.astype(bool).reshape(-1, *(1 for _ in x.shape[1:])), examples)
    compute = single_pass_moments if passes == 1 else two_pass_moments
    mean, variance = compute(values, axes, reference_mean, mask)
    if mask is None:
        return Moments(mean, variance, values.size // mean.size)
    return Moments(mean, variance, count_values(values, axes, mask))


def normalise(
    x: jax.Array, mean: jax.Array, variance: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """Returns (x - mean) / sqrt(variance) * scale + bias; `variance` includes epsilon."""
    return (x - mean) * (jax.lax.rsqrt(variance) * scale) + bias


class BatchNorm(nn.Module):
    """Normalises [B, ..., C] over groups of examples and all positions.

    Training uses algorithm 1 of the paper, evaluation algorithm 2. The statistics of a group are
    those of its own examples on any number of devices: the batch is reshaped to
    [B / N, N, ..., C], whose leading axis stays on the data axis of a mesh. Nothing is communicated
    if N divides a device's share. Moments, scale and shift are computed in at least float32; the
    output has the input's dtype.

    Attributes:
      examples_per_group: N, the number of examples that share statistics in training; 0 for the
        whole batch.
      decay: Fraction of the running statistics that a step keeps (PyTorch's momentum is 1 - decay).
      epsilon: Number added to the variance.
      use_scale: Whether to learn gamma, from `scale_init`; otherwise gamma is 1.
      running_variance: `unbiased` keeps the m/(m-1)-corrected variance (TF, PyTorch, algorithm 2),
        `biased` the plain one (Keras, Flax). The batch itself is normalised with the biased one.
      frozen: Whether training normalises with the running statistics and leaves them unchanged, as
        fine-tuning needs it.
      per_activation: Whether statistics, gamma and beta exist for each position, over the examples
        alone (section 3.2; the last layers of the paper's ensemble).
      passes: Passes over a batch for its moments: 2, or 1 about the running mean.
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
    """Whether the norm is monotone in each channel and takes `moments` and `fused`, as rewrites
    need it. Each class declares it itself."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        moments: Moments | None = None,
        mask: jax.Array | None = None,
        fused: FusedNorm | None = None,
    ) -> jax.Array:
        """Normalises `x` [B, ..., C].

        Args:
          fused: An operation that computes moments and output in training, and may do more.
          moments: Moments of the groups under the same mask; default: computed from `x`.
          mask: [B], true for the examples that the statistics are of; default: all. The others are
            normalised too. A group without such examples leaves the running statistics
            unchanged. It is normalised with variance 0 and mean 0, or with one pass the running
            mean.

        Raises:
          ValueError: `train=True` and `batch_stats` is not mutable, or groups do not divide the
            batch.
        """
        chex.assert_type(x, float)
        shape = x.shape[1 if self.per_activation else -1 :]
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        scale = jnp.ones((), dtype)
        if self.use_scale:
            scale = self.param("scale", nn.initializers.constant(self.scale_init), shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        if not train or self.frozen:
            variance = running_var.value + self.epsilon
            y = normalise(x.astype(dtype), running_mean.value, variance, scale, bias)
            return y.astype(x.dtype)
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                "train=True updates the running statistics, but the collection 'batch_stats' is "
                "not mutable: call network.apply(..., train=True, mutable=['batch_stats']) and "
                "keep what it returns, or pass train=False"
            )
        group = self.examples_per_group
        if fused:
            y, moments = fused(x, scale, bias, running_mean.value, mask, group, self.epsilon)
        mean, var, m = moments or compute_moments(
            x, running_mean.value, mask, examples=group, passes=self.passes
        )
        if not self.is_initializing():
            kept = var
            if self.running_variance == "unbiased":
                kept = var * (m / (max(m - 1, 1) if mask is None else jnp.maximum(m - 1, 1)))
            running_mean.value = update_moving_average(running_mean.value, mean, m, self.decay)
            running_var.value = update_moving_average(running_var.value, kept, m, self.decay)
        if fused:
            return y
        values = group_examples(x, group).astype(dtype)
        y = normalise(values, mean, var + self.epsilon, scale, bias)
        return y.reshape(x.shape).astype(x.dtype)
