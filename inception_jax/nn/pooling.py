"""Pooling, with the paddings and windows of the tables.

Flax's pools are called by keyword, which its ONNX exporter needs.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.spec.geometry import get_kernel, list_adaptive_windows, slide_windows
from inception_jax.spec.rewritten import ComparedPool
from inception_jax.spec.vocabulary import Pool, Unit

Pairs = tuple[tuple[int, int], ...]


def pool(x: jax.Array, word: Pool, unit: Unit) -> jax.Array:
    """Pools `x` [B, H, W, C]; a global pool returns [B, C]."""
    reduce = jnp.mean if word.kind == "avg" else jnp.max
    if word.grid:
        rows, columns = (list_adaptive_windows(x.shape[1 + i], word.grid[i]) for i in (0, 1))
        cells = [[reduce(x[:, row, column], (1, 2)) for column in columns] for row in rows]
        return jnp.stack([jnp.stack(row, 1) for row in cells], 1)
    if word.kernel is None:
        return reduce(x, (1, 2))
    kernel = get_kernel(word, *x.shape[1:3])
    spans = slide_windows(word, x.shape[1:], unit.same)
    padding = tuple((span.before, span.after) for span in spans)
    if word.kind == "avg":
        # In Caffe's ceil mode the last window overlaps the border, and the overlap never counts.
        count = unit.count_include_pad and word.padding != "ceil"
        mean = nn.avg_pool(
            x, window_shape=kernel, strides=word.stride, padding=padding, count_include_pad=count
        )
        return mean.astype(x.dtype)  # Flax divides by float32 counts: float32 for bfloat16
    if word.pad_value is not None:
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=word.pad_value)
        padding = ((0, 0), (0, 0))
    max_pool = max_pool_by_comparison if isinstance(word, ComparedPool) else nn.max_pool
    return max_pool(x, window_shape=kernel, strides=word.stride, padding=padding)


def normalise_local_response(
    x: jax.Array, size: int, alpha: float, beta: float, k: float
) -> jax.Array:
    """Divides `x` by a power of the energy of neighbouring channels, in at least float32.

    Source: Caffe's `lrn_layer.cpp`.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    energy = size * nn.avg_pool(
        jnp.square(wide)[..., None],
        window_shape=(1, 1, size),
        strides=(1, 1, 1),
        padding=((0, 0), (0, 0), (size // 2, (size - 1) // 2)),
    )
    return (wide / (k + alpha / size * energy[..., 0]) ** beta).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool_by_comparison(
    x: jax.Array, window_shape: tuple[int, int], strides: tuple[int, int], padding: Pairs
) -> jax.Array:
    """Pools `x` [B, H, W, C] as `flax.linen.max_pool`, with a gradient made of comparisons.

    The first of equal values in a window gets the gradient, as in XLA's select-and-scatter, which
    visits windows one after the other on a CPU.

    Note: On a TPU select-and-scatter is the faster one: the comparisons of Inception-v3 at batch 64
    move 45.6 GB instead of 24.2 GB.
    """
    return nn.max_pool(x, window_shape=window_shape, strides=strides, padding=padding)


def _max_pool_forward(x, kernel, stride, padding):
    y = max_pool_by_comparison(x, kernel, stride, padding)
    return y, (x, y)


def _max_pool_backward(kernel, stride, padding, residuals, cotangent):
    x, y = residuals
    # The distance from the first to the last window, which is the same for each of their values.
    span = [(y.shape[1 + i] - 1) * stride[i] + 1 for i in (0, 1)]
    wide = [max(x.shape[1 + i] + padding[i][0], span[i] + kernel[i] - 1) for i in (0, 1)]
    borders = [(padding[i][0], wide[i] - x.shape[1 + i] - padding[i][0]) for i in (0, 1)]
    x = jnp.pad(x, ((0, 0), *borders, (0, 0)), constant_values=-jnp.inf)
    is_free, total = jnp.ones(y.shape, bool), jnp.zeros_like(x)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            value = x[:, row : row + span[0] : stride[0], column : column + span[1] : stride[1]]
            is_first = is_free & (value == y)
            is_free &= ~is_first
            pads = [(k, wide[i] - k - span[i], stride[i] - 1) for i, k in enumerate((row, column))]
            share = jnp.where(is_first, cotangent, 0)
            total += jax.lax.pad(share, jnp.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    inside = (slice(before, wide[i] - after) for i, (before, after) in enumerate(borders))
    return (total[(slice(None), *inside)],)


max_pool_by_comparison.defvjp(_max_pool_forward, _max_pool_backward)


def flip_sign(x: jax.Array, gamma: jax.Array | None) -> jax.Array:
    """Returns `x` [..., C] times the sign of `gamma` [C].

    For a positive gamma the norm of a maximum is the maximum of the norm.
    """
    return x if gamma is None else x * jnp.where(gamma < 0, -1, 1).astype(x.dtype)
