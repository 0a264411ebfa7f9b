"""Pooling as the tables ask for it. Flax's pools are called by keyword: its ONNX exporter needs that."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.spec.geometry import get_kernel, list_adaptive_windows, slide_windows
from inception_jax.spec.rewritten import ComparedPool
from inception_jax.spec.vocabulary import Pool, Unit

Pairs = tuple[tuple[int, int], ...]


def pool(x: jax.Array, word: Pool, unit: Unit) -> jax.Array:
    """Pools `x` of shape [B, H, W, C]; a global pool gives [B, C]."""
    reduce = jnp.mean if word.kind == "avg" else jnp.max
    if word.grid:
        rows, columns = (list_adaptive_windows(x.shape[1 + i], word.grid[i]) for i in (0, 1))
        return jnp.stack(
            [
                jnp.stack([reduce(x[:, row, column], (1, 2)) for column in columns], 1)
                for row in rows
            ],
            1,
        )
    if word.kernel is None:
        return reduce(x, (1, 2))
    kernel = get_kernel(word, *x.shape[1:3])
    padding = tuple(
        (span.before, span.after) for span in slide_windows(word, x.shape[1:], unit.same)
    )
    if word.kind == "avg":
        # Caffe's ceil mode hangs the last window over the border, but never counts what hangs over.
        count = unit.count_include_pad and word.padding != "ceil"
        mean = nn.avg_pool(
            x, window_shape=kernel, strides=word.stride, padding=padding, count_include_pad=count
        )
        return mean.astype(
            x.dtype
        )  # Flax divides by float32 counts, and so returns float32 for bfloat16
    if word.pad_value is not None:
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=word.pad_value)
        padding = ((0, 0), (0, 0))
    max_pool = max_pool_by_comparison if isinstance(word, ComparedPool) else nn.max_pool
    return max_pool(x, window_shape=kernel, strides=word.stride, padding=padding)


def normalise_local_response(
    x: jax.Array, size: int, alpha: float, beta: float, k: float
) -> jax.Array:
    """Divides by the energy of the neighbouring channels, in at least float32 (Caffe's `lrn_layer.cpp`)."""
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

    Of equal values in a window the first alone has the gradient, as with XLA's own, select-and-scatter. That goes through windows one after
    the other on a CPU. On a TPU it is the faster: there the comparisons of Inception-v3 at batch 64 move 45.6 GB in place of 24.2.
    """
    return nn.max_pool(x, window_shape=window_shape, strides=strides, padding=padding)


def _forward(x, kernel, stride, padding):
    y = max_pool_by_comparison(x, kernel, stride, padding)
    return y, (x, y)


def _backward(kernel, stride, padding, kept, cotangent):
    x, y = kept
    span = [
        (y.shape[1 + i] - 1) * stride[i] + 1 for i in (0, 1)
    ]  # of the places where windows have one and the same of their values
    wide = [max(x.shape[1 + i] + padding[i][0], span[i] + kernel[i] - 1) for i in (0, 1)]
    borders = [(padding[i][0], wide[i] - x.shape[1 + i] - padding[i][0]) for i in (0, 1)]
    x = jnp.pad(x, ((0, 0), *borders, (0, 0)), constant_values=-jnp.inf)
    free, total = jnp.ones(y.shape, bool), jnp.zeros_like(x)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            value = x[:, row : row + span[0] : stride[0], column : column + span[1] : stride[1]]
            chosen = free & (value == y)
            free &= ~chosen
            places = [
                (at, wide[i] - at - span[i], stride[i] - 1) for i, at in enumerate((row, column))
            ]
            total += jax.lax.pad(
                jnp.where(chosen, cotangent, 0),
                jnp.zeros((), x.dtype),
                ((0, 0, 0), *places, (0, 0, 0)),
            )
    inside = (slice(before, wide[i] - after) for i, (before, after) in enumerate(borders))
    return (total[(slice(None), *inside)],)


max_pool_by_comparison.defvjp(_forward, _backward)


def flip_sign(x: jax.Array, gamma: jax.Array | None) -> jax.Array:
    """Returns `x` [..., C] with the sign of each `gamma` [C]: where it is positive, the norm of a maximum is the maximum of the norm."""
    return x if gamma is None else x * jnp.where(gamma < 0, -1, 1).astype(x.dtype)
