"""Norm, activation and what stands beside them as one operation with a gradient of its own."""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier

from inception_jax.nn.gpu.pooling import find_maxima, place_by_index
from inception_jax.nn.norm import Mask, Moments, count_values, group_examples
from inception_jax.spec.geometry import Window


class NormTail(NamedTuple):
    """The constants of a norm with what stands beside it.

    Attributes:
      epsilon: Number added to the variance.
      is_relu: Whether a ReLU follows.
      window: The window of a max pool between the moments and the norm; None for no pool.
    """

    epsilon: float
    is_relu: bool
    window: Window | None


def normalise_and_activate(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    reference_mean: jax.Array,
    mask: Mask,
    examples: int,
    epsilon: float,
    *,
    is_relu: bool,
    window: Window | None = None,
    shortcut: jax.Array | None = None,
) -> tuple[jax.Array, Moments]:
    """Returns relu(norm(pool(x)) + shortcut) and the moments of `x` [B, H, W, C].

    The moments are about `reference_mean`, in one pass, as of `norm.single_pass_moments`.

    Args:
      scale: Gamma, in the shape of `reference_mean`. A max pool takes minima where it is negative.
      bias: Beta, in the shape of `reference_mean`.
      reference_mean: An estimate of the mean: [C], or [H, W, C] for a mean of each position.
      mask: [B], true for the examples that the moments are of.
      examples: Examples of a group; 0 for the whole batch.
      epsilon: Number added to the variance.
      is_relu: Whether a ReLU follows.
      window: The window of the max pool; None for no pool.
      shortcut: [B, H, W, C], added before the activation; None for nothing.
    """
    scale = jnp.broadcast_to(scale, bias.shape)
    if mask is not None:
        mask = mask.astype(bool).reshape(-1, *(1 for _ in x.shape[1:]))
    apply = partial(_apply, NormTail(epsilon, is_relu, window), scale, bias, reference_mean)
    if examples in (0, len(x)):  # with an axis for one group XLA fuses less
        y, mean, variance = apply(x, mask, shortcut)
        mean, variance = mean[None], variance[None]
    else:
        groups = jax.tree.map(lambda array: group_examples(array, examples), (x, mask, shortcut))
        y, mean, variance = jax.vmap(apply)(*groups)
        y = y.reshape(-1, *y.shape[2:])
    values = group_examples(x, examples)
    axes = tuple(range(1, values.ndim - bias.ndim))
    mean, variance = (jnp.expand_dims(moment, axes) for moment in (mean, variance))
    if mask is None:
        return y, Moments(mean, variance, values.size // mean.size)
    return y, Moments(mean, variance, count_values(values, axes, group_examples(mask, examples)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(tail, scale, bias, reference_mean, x, mask, shortcut):
    """Returns y [N, H, W, C], mean and variance of one group, in the shape of `scale`."""
    return _forward(tail, scale, bias, reference_mean, x, mask, shortcut)[0]


def _forward(tail, scale, bias, reference_mean, x, mask, shortcut):
    """Returns also what the backward pass needs.

    Of the maps that is `x`; after a max pool also the maxima and their indices; with a shortcut
    also the output.
    """
    mean, variance = _compute_moments(x, reference_mean, mask)
    values, index = _find_maxima(x, scale, tail.window) if tail.window else (x, None)
    factor = jax.lax.rsqrt(variance + tail.epsilon) * scale
    z = (values.astype(mean.dtype) - mean) * factor + bias
    z = z if shortcut is None else z + shortcut.astype(z.dtype)
    y = (jnp.maximum(z, 0) if tail.is_relu else z).astype(x.dtype)
    pooled = (values, index) if tail.window else None
    output = None if shortcut is None else y
    return (y, mean, variance), (scale, bias, mean, variance, x, mask, pooled, output)


def _backward(tail, residuals, cotangents):
    """Returns the gradients in two passes over the maps: one for sums, one for that of `x`."""
    scale, bias, mean, variance, x, mask, pooled, output = residuals
    y_cotangent, mean_cotangent, variance_cotangent = cotangents
    inverse = jax.lax.rsqrt(variance + tail.epsilon)
    values = x if pooled is None else pooled[0]
    shortcut_cotangent = None
    if output is not None:
        is_active = output > 0 if tail.is_relu else True
        y_cotangent = shortcut_cotangent = jnp.where(is_active, y_cotangent, 0)

    def compute_cotangent(mean, factor, bias):
        """Returns the deviations of the values from `mean`, and the gradient by the norm."""
        deviation, cotangent = (z.astype(mean.dtype) for z in (values, y_cotangent))
        deviation -= mean
        if tail.is_relu and output is None:
            cotangent = jnp.where(deviation * factor + bias > 0, cotangent, 0)
        return deviation, cotangent

    factor = inverse * scale
    deviation, cotangent = compute_cotangent(mean, factor, bias)
    total, moment = _sum_pair(cotangent, cotangent * deviation, scale.ndim)
    count = _count_values(x, mask, scale.ndim, mean.dtype)
    shift = (factor * total - mean_cotangent) / count
    tilt = (factor * moment * inverse**2 - 2 * variance_cotangent) / count
    scale_cotangent, bias_cotangent = moment * inverse, total
    # Without the barrier XLA writes the masked gradient of the first pass for the second one.
    mean, factor, bias, shift, tilt = optimization_barrier((mean, factor, bias, shift, tilt))
    deviation, cotangent = compute_cotangent(mean, factor, bias)
    if tail.window:
        cotangent = optimization_barrier(cotangent.astype(x.dtype))
        cotangent = place_by_index(cotangent, pooled[1], x.shape[1:3], tail.window)
        deviation = x.astype(mean.dtype) - mean
    correction = shift + deviation * tilt
    correction = correction if mask is None else jnp.where(mask, correction, 0)
    x_cotangent = (factor * cotangent - correction).astype(x.dtype)
    return scale_cotangent, bias_cotangent, None, x_cotangent, None, shortcut_cotangent


_apply.defvjp(_forward, _backward)


def _compute_moments(x, reference_mean, mask):
    """Returns mean and variance, in the shape of `reference_mean`, in one pass."""
    deviation = x.astype(reference_mean.dtype) - reference_mean
    deviation = deviation if mask is None else jnp.where(mask, deviation, 0)
    count = _count_values(x, mask, reference_mean.ndim, deviation.dtype)
    sums = _sum_pair(deviation, jnp.square(deviation), reference_mean.ndim)
    offset, square = (total / count for total in sums)
    return offset + reference_mean, jnp.maximum(square - jnp.square(offset), 0)


def _count_values(x, mask, ndim, dtype):
    """Returns the number of values under `mask` that one statistic of `ndim` axes is of."""
    size = prod(x.shape[: x.ndim - ndim])
    if mask is None:
        return size
    return jnp.maximum(mask.sum() * (size // len(x)), 1).astype(dtype)


def _sum_pair(a, b, ndim):
    """Returns the sums of two arrays of one shape over all but the last `ndim` axes.

    On a GPU one kernel computes both. A CPU adds the values of such a reduction one after the
    other: with 2,000 of them float32 loses a digit more than by two reductions.
    """
    zero, axes = jnp.zeros((), a.dtype), tuple(range(a.ndim - ndim))

    def reduce_together(a, b):
        return tuple(
            jax.lax.reduce((a, b), (zero, zero), lambda x, y: (x[0] + y[0], x[1] + y[1]), axes)
        )

    def reduce_apart(a, b):
        return a.sum(axes), b.sum(axes)

    return jax.lax.platform_dependent(a, b, cuda=reduce_together, default=reduce_apart)


def _find_maxima(x, scale, window):
    """Returns the maxima of the windows, minima where `scale` < 0, and their indices."""
    sign = jnp.where(scale < 0, -1, 1).astype(x.dtype)
    maxima, index = find_maxima(x * sign, window)
    return optimization_barrier((maxima * sign, index))
