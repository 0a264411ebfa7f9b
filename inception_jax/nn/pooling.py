"""Pooling, with the paddings and windows of the tables.

Flax's pools are called by keyword, which its ONNX exporter needs.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.gpu.pooling import average_pool_by_shifts, max_pool_by_shifts
from inception_jax.spec.geometry import list_adaptive_windows, make_window
from inception_jax.spec.rewritten import ShiftedPool
from inception_jax.spec.vocabulary import Pool, Unit


def pool(x: jax.Array, word: Pool, unit: Unit) -> jax.Array:
    """Pools `x` [B, H, W, C]; a global pool returns [B, C]."""
    reduce = jnp.mean if word.kind == "avg" else jnp.max
    if word.grid:
        rows, columns = (list_adaptive_windows(x.shape[1 + i], word.grid[i]) for i in (0, 1))
        cells = [[reduce(x[:, row, column], (1, 2)) for column in columns] for row in rows]
        return jnp.stack([jnp.stack(row, 1) for row in cells], 1)
    if word.kernel is None:
        return reduce(x, (1, 2))
    window = make_window(word, x.shape[1:], unit.same)
    if word.kind == "avg":
        # In Caffe's ceil mode the last window overlaps the border, and the overlap never counts.
        count = unit.count_include_pad and word.padding != "ceil"
        if isinstance(word, ShiftedPool):
            return average_pool_by_shifts(x, window, count)
        mean = nn.avg_pool(x, **window._asdict(), count_include_pad=count)
        return mean.astype(x.dtype)  # Flax divides by float32 counts: float32 for bfloat16
    if word.pad_value is not None:
        x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=word.pad_value)
        window = window._replace(padding=((0, 0), (0, 0)))
    if isinstance(word, ShiftedPool):
        return max_pool_by_shifts(x, window)
    return nn.max_pool(x, **window._asdict())


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


def flip_sign(x: jax.Array, gamma: jax.Array | None) -> jax.Array:
    """Returns `x` [..., C] times the sign of `gamma` [C].

    For a positive gamma the norm of a maximum is the maximum of the norm.
    """
    return x if gamma is None else x * jnp.where(gamma < 0, -1, 1).astype(x.dtype)
