"""The mean and variance of groups, in two passes over their values or in one."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

Axes = tuple[int, ...]
Pair = tuple[jax.Array, jax.Array]


class Moments(NamedTuple):
    """Of groups of values: mean and biased variance, [groups, 1, ..., C], and how many values each is of."""

    mean: jax.Array
    variance: jax.Array
    values: int


def in_two_passes(x: jax.Array, axes: Axes, near: jax.Array) -> Pair:
    """The variance from the differences from the mean: as many digits as there are, wherever the mean is.

    In float32 the form E[x^2] - E[x]^2 is 6 % off where the mean is 1,000 deviations, and has lost all digits at 10,000.
    """
    mean = x.mean(axes, keepdims=True)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def in_one_pass(x: jax.Array, axes: Axes, near: jax.Array) -> Pair:
    """Both about `near`, which is known before `x` is: what computes `x` can add both up as it goes, and `x` is not read again.

    A mean `d` deviations away from there costs the variance the digits of d^2: at 10 two of float32's seven. So it is right where
    `near` is the running mean of earlier batches.
    """
    x = x - jax.lax.stop_gradient(near)
    offset = x.mean(axes, keepdims=True)
    variance = jnp.square(x).mean(axes, keepdims=True) - jnp.square(offset)
    return offset + jax.lax.stop_gradient(near), jnp.maximum(variance, 0)


MOMENTS: Mapping[int, Callable[[jax.Array, Axes, jax.Array], Pair]] = {1: in_one_pass, 2: in_two_passes}
"""(values, the axes to take them over, a guess of the mean) -> mean and biased variance, with those axes kept; by the passes it takes."""
