"""Pools over windows, by the way in which they are computed.

By slices they are maxima and sums of the whole map and of itself shifted, rows first and columns then. XLA goes through a window's values
one by one on a CPU; a window of 3x3 is here four operations on whole arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn import maxima

Pair = tuple[int, int]
Pairs = Sequence[tuple[int, int]]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window_shape: Pair, strides: Pair, padding: Pairs) -> jax.Array:
    """`flax.linen.max_pool` of `x` [B, H, W, C], whose gradient it has, too."""
    return _by_slices(jnp.maximum, x, -jnp.inf, window_shape, strides, padding)


def _forward(x, window_shape, strides, padding):
    return max_pool(x, window_shape, strides, padding), x


def _backward(window_shape, strides, padding, x, slope):
    return jax.vjp(lambda x: nn.max_pool(x, window_shape=window_shape, strides=strides, padding=padding), x)[1](slope)


max_pool.defvjp(_forward, _backward)


def avg_pool(x: jax.Array, window_shape: Pair, strides: Pair, padding: Pairs, count_include_pad: bool) -> jax.Array:
    """`flax.linen.avg_pool` of `x` [B, H, W, C]."""
    total = partial(_by_slices, window_shape=window_shape, strides=strides, padding=padding)
    if count_include_pad:
        return total(jnp.add, x, 0) / np.prod(window_shape)
    return total(jnp.add, x, 0) / total(jnp.add, jnp.ones((1, *x.shape[1:3], 1), jnp.promote_types(x.dtype, jnp.float32)), 0)


def _by_slices(
    join: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, outside: float, window_shape: Pair, strides: Pair, padding: Pairs
) -> jax.Array:
    x = jax.lax.pad(x, jnp.asarray(outside, x.dtype), [(0, 0, 0), *((*border, 0) for border in padding), (0, 0, 0)])
    for axis, window, stride in zip((1, 2), window_shape, strides, strict=True):
        span = (x.shape[axis] - window) // stride * stride + 1
        x = reduce(join, [jax.lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(window)])
    return x


AVG_POOLS: Mapping[str, Callable[..., jax.Array]] = {"windows": nn.avg_pool, "slices": avg_pool}
MAX_POOLS: Mapping[str, Callable[..., jax.Array]] = {"windows": nn.max_pool, "slices": max_pool, "comparisons": maxima.max_pool}
