"""Pooling as the tables ask for it. Flax's pools are called by keyword: its ONNX exporter needs that."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.windows import AVG_POOLS, MAX_POOLS
from inception_jax.spec.geometry import adaptive, kernel_on, windows
from inception_jax.spec.vocabulary import Pool, Unit


def pool(x: jax.Array, word: Pool, unit: Unit) -> jax.Array:
    """Pools `x` of shape [B, H, W, C]; a global pool gives [B, C]."""
    reduce = jnp.mean if word.kind == "avg" else jnp.max
    if word.grid:
        rows, columns = (adaptive(x.shape[1 + i], word.grid[i]) for i in (0, 1))
        return jnp.stack([jnp.stack([reduce(x[:, row, column], (1, 2)) for column in columns], 1) for row in rows], 1)
    if word.kernel is None:
        return reduce(x, (1, 2))
    kernel = kernel_on(word, *x.shape[1:3])
    padding = tuple((span.before, span.after) for span in windows(word, x.shape[1:], unit.same))
    if word.kind == "avg":
        # Caffe's ceil mode hangs the last window over the border, but never counts what hangs over.
        count = unit.count_include_pad and word.padding != "ceil"
        mean = AVG_POOLS[word.how](x, window_shape=kernel, strides=word.stride, padding=padding, count_include_pad=count)
        return mean.astype(x.dtype)  # Flax divides by float32 counts, and so returns float32 for bfloat16
    if word.pad_value is not None:
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=word.pad_value)
        padding = ((0, 0), (0, 0))
    return MAX_POOLS[word.how](x, window_shape=kernel, strides=word.stride, padding=padding)


def local_response(x: jax.Array, size: int, alpha: float, beta: float, k: float) -> jax.Array:
    """Divides by the energy of the neighbouring channels, in at least float32 (Caffe's `lrn_layer.cpp`)."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    energy = size * nn.avg_pool(
        jnp.square(wide)[..., None], window_shape=(1, 1, size), strides=(1, 1, 1), padding=((0, 0), (0, 0), (size // 2, (size - 1) // 2))
    )
    return (wide / (k + alpha / size * energy[..., 0]) ** beta).astype(x.dtype)
