"""The mean and variance of groups, in two passes over their values or in one."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

Axes = tuple[int, ...]
Pair = tuple[jax.Array, jax.Array]
Mask = jax.Array | None
"""Of values to take moments of, broadcast to them: those that count; None where all of them do."""


class Moments(NamedTuple):
    """Of groups of values: mean and biased variance, [groups, 1, ..., C], and how many values each is of.

    With a mask the number is an array, [groups, 1, ..., 1]; a group of none has the mean and the variance 0.
    """

    mean: jax.Array
    variance: jax.Array
    values: int | jax.Array


def grouped(x: jax.Array, examples: int) -> jax.Array:
    """Returns `x` [B, ...] as [B / N, N, ...], groups of so many examples, 0 for the whole batch.

    Raises:
      ValueError: they do not divide the batch.
    """
    batch = x.shape[0]
    group = examples or batch
    if batch % group:
        raise ValueError(
            f"batch normalisation over {group} examples cannot split a batch of {batch}: choose a batch size that "
            f"is a multiple of {group}, or an examples_per_group that divides {batch} (0 for the whole batch)"
        )
    return x.reshape(batch // group, group, *x.shape[1:])


def moving_average(running: jax.Array, of_groups: jax.Array, values: int | jax.Array, decay: float) -> jax.Array:
    """Returns the running statistics after those of groups of so many `values`; a group of none has no part in them."""
    axes = tuple(range(of_groups.ndim - running.ndim))
    if isinstance(values, int):
        return decay * running + (1 - decay) * of_groups.mean(axes)
    filled = values > 0
    average = of_groups.mean(axes, where=jnp.broadcast_to(filled, of_groups.shape))
    return jnp.where(filled.any(), decay * running + (1 - decay) * average, running)


def mean_of(x: jax.Array, axes: Axes, mask: Mask) -> jax.Array:
    """Returns the mean of the values that count, 0 where there are none; what does not count may be anything, NaN too."""
    if mask is None:
        return x.mean(axes, keepdims=True)
    total = jnp.where(mask, x, 0).sum(axes, keepdims=True)
    return total / jnp.maximum(count_of(x, axes, mask), 1).astype(total.dtype)


def count_of(x: jax.Array, axes: Axes, mask: jax.Array) -> jax.Array:
    """Returns how many values of each group count."""
    return jnp.broadcast_to(mask, (*x.shape[:-1], 1)).sum(axes, keepdims=True)


def in_two_passes(x: jax.Array, axes: Axes, near: jax.Array, mask: Mask = None) -> Pair:
    """The variance from the differences from the mean: as many digits as there are, wherever the mean is.

    In float32 the form E[x^2] - E[x]^2 is 6 % off where the mean is 1,000 deviations, and has lost all digits at 10,000.
    """
    mean = mean_of(x, axes, mask)
    return mean, mean_of(jnp.square(x - mean), axes, mask)


def in_one_pass(x: jax.Array, axes: Axes, near: jax.Array, mask: Mask = None) -> Pair:
    """Both about `near`, which is known before `x` is: what computes `x` can add both up as it goes, and `x` is not read again.

    A mean `d` deviations away from there costs the variance the digits of d^2: at 10 two of float32's seven. So it is right where
    `near` is the running mean of earlier batches.
    """
    x = x - jax.lax.stop_gradient(near)
    offset = mean_of(x, axes, mask)
    variance = mean_of(jnp.square(x), axes, mask) - jnp.square(offset)
    return offset + jax.lax.stop_gradient(near), jnp.maximum(variance, 0)


MOMENTS: Mapping[int, Callable[[jax.Array, Axes, jax.Array, Mask], Pair]] = {1: in_one_pass, 2: in_two_passes}
"""(values, the axes to take them over, a guess of the mean, a mask) -> mean and biased variance, with those axes kept; by the passes it
takes."""


def moments_of(x: jax.Array, near: jax.Array, mask: Mask, *, examples: int, passes: int) -> Moments:
    """Returns the moments of each group of `x` [B, ..., C].

    Args:
      near: a guess of the means, in the shape of what is learned: [C], or a value for each position too.
      mask: [B], true for the examples that count.
    """
    values = grouped(x, examples).astype(near.dtype)
    axes = tuple(range(1, values.ndim - near.ndim))
    if mask is not None:
        chex.assert_shape(mask, x.shape[:1])
        mask = grouped(mask.astype(bool).reshape(-1, *(1 for _ in x.shape[1:])), examples)
    mean, variance = MOMENTS[passes](values, axes, near, mask)
    return Moments(mean, variance, values.size // mean.size if mask is None else count_of(values, axes, mask))


def normalise(x: jax.Array, mean: jax.Array, variance: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns `x` with this mean and variance (epsilon included) taken out, and this scale and bias put in."""
    return (x - mean) * (jax.lax.rsqrt(variance) * scale) + bias
