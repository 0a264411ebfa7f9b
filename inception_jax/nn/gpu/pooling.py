"""Pools from shifted maps; the gradient of a maximum goes by its index, without a scatter."""

from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.spec.geometry import Window


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool_by_shifts(x: jax.Array, window: Window) -> jax.Array:
    """Pools `x` [B, H, W, C] as `flax.linen.max_pool`, with a gradient by the maxima's indices.

    The first of equal values in a window gets the gradient, as in XLA's select-and-scatter, which
    visits windows one after the other on a CPU. The backward pass needs a byte for each output
    and not the input.

    Note: For a GPU, XLA turns the gradient of a max pool into a pool with 32-bit indices, a map of
    zeros, a scatter and a copy: 2 GB for the first pool of Inception-v3 at batch 64.
    """
    return nn.max_pool(x, **window._asdict())


def _max_pool_forward(x: jax.Array, window: Window):
    y, index = find_maxima(x, window)
    return y, (index, x.shape[1:3])


def _max_pool_backward(window: Window, residuals, cotangent: jax.Array):
    index, size = residuals
    return (place_by_index(cotangent, index, size, window).astype(cotangent.dtype),)


max_pool_by_shifts.defvjp(_max_pool_forward, _max_pool_backward)


def find_maxima(x: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each window of `x` [B, H, W, C], and its index in `window.offsets`.

    A window with a NaN has the maximum NaN, as in `flax.linen.max_pool`.
    """
    values = list_taps(x, window, -jnp.inf)
    index_dtype = np.min_scalar_type(len(values))
    maxima, index = values[0], jnp.zeros(values[0].shape, index_dtype)
    for i, value in enumerate(values[1:], 1):
        index = jnp.where(value > maxima, index_dtype.type(i), index)
        maxima = jnp.maximum(maxima, value)
    return maxima, index


def place_by_index(
    values: jax.Array, index: jax.Array, size: tuple[int, ...], window: Window
) -> jax.Array:
    """Returns a map [B, H, W, C] in which each pixel has the sum of what its windows give it.

    Args:
      values: [B, H', W', C], a value of each window. They are summed in at least float32.
      index: The pixel of the window that gets the value, as from `find_maxima`.
      size: (H, W).
    """
    wide = jnp.promote_types(values.dtype, jnp.float32)
    spans, zero = window.get_spans(size), jnp.zeros((), wide)
    total = jnp.zeros((len(values), *size, values.shape[-1]), wide)
    for i, offset in enumerate(window.offsets):
        starts = [offset[axis] - window.padding[axis][0] for axis in (0, 1)]
        pads = [
            (start, length - start - span, stride - 1)
            for start, length, span, stride in zip(starts, size, spans, window.strides, strict=True)
        ]
        placed = jnp.where(index == i, values.astype(wide), 0)
        total += jax.lax.pad(placed, zero, ((0, 0, 0), *pads, (0, 0, 0)))
    return total


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def average_pool_by_shifts(x: jax.Array, window: Window, count_include_pad: bool) -> jax.Array:
    """Pools `x` [B, H, W, C] as `flax.linen.avg_pool`, by sums of shifted maps.

    The sums are in at least float32.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total = reduce(jnp.add, list_taps(wide, window, 0))
    return (total / count_pixels(x.shape[1:3], window, count_include_pad)).astype(x.dtype)


def _average_pool_forward(x: jax.Array, window: Window, count_include_pad: bool):
    return average_pool_by_shifts(x, window, count_include_pad), x.shape[1:3]


def _average_pool_backward(window: Window, count_include_pad: bool, size, cotangent: jax.Array):
    wide = cotangent.astype(jnp.promote_types(cotangent.dtype, jnp.float32))
    share = wide / count_pixels(size, window, count_include_pad)
    spans = window.get_spans(size)
    pads = [
        (window.window_shape[i] - 1 - before, size[i] + before - spans[i], window.strides[i] - 1)
        for i, (before, _) in enumerate(window.padding)
    ]
    share = jax.lax.pad(share, jnp.zeros((), wide.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    neighbours = list_taps(share, Window(window.window_shape, (1, 1), ((0, 0), (0, 0))), 0)
    total = reduce(jnp.add, neighbours)
    return (total.astype(cotangent.dtype),)


average_pool_by_shifts.defvjp(_average_pool_forward, _average_pool_backward)


def count_pixels(size: tuple[int, ...], window: Window, count_include_pad: bool) -> np.ndarray:
    """Returns the number of pixels that each window's sum is divided by, [H', W', 1]."""
    counts = []
    for i, length in enumerate(size):
        starts = np.arange(0, window.get_spans(size)[i], window.strides[i]) - window.padding[i][0]
        ends = np.minimum(starts + window.window_shape[i], length)
        inside = ends - np.maximum(starts, 0)
        counts.append(np.full_like(inside, window.window_shape[i]) if count_include_pad else inside)
    return np.multiply.outer(*counts)[..., None].astype(np.float32)


def list_taps(x: jax.Array, window: Window, fill: float) -> list[jax.Array]:
    """Returns the values of all windows over `x` [B, H, W, C], [B, H', W', C] for each offset."""
    spans, strides = window.get_spans(x.shape[1:3]), window.strides
    borders = [(before, max(after, 0)) for before, after in window.padding]
    x = jnp.pad(x, ((0, 0), *borders, (0, 0)), constant_values=fill)
    return [
        x[:, row : row + spans[0] : strides[0], column : column + spans[1] : strides[1]]
        for row, column in window.offsets
    ]
