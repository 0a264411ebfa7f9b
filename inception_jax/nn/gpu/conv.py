"""Convolutions whose kernel gradients are computed in the dtype of the activations."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

Convolve = Any
"""(x, kernel) -> the convolution, in the dtype of `x`."""


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def convolve_narrow(
    convolve: Convolve, x: jax.Array, kernel: jax.Array, batch_sharding: NamedSharding | None
) -> jax.Array:
    """Convolves `x` [B, H, W, C] with `kernel`, whose gradient is rounded before it is summed.

    cuDNN accumulates the gradient of the kernel in float32 and writes it in the dtype of `x`. With
    `batch_sharding` the devices' gradients are then summed in the dtype of the kernel. Without it
    and on several devices, XLA sums them in the dtype of `x`.

    Note: For a float32 gradient of bfloat16 maps, XLA runs a float32 convolution for a GPU, and
    writes both maps in float32 first: 31.6 GB instead of 26.7 GB in a step of Inception-v3 at
    batch 64.
    """
    return convolve(x, kernel.astype(x.dtype))


def _forward(convolve, x, kernel, batch_sharding):
    narrow = kernel.astype(x.dtype)
    return convolve(x, narrow), (x, narrow, jnp.zeros((), kernel.dtype))


def _backward(convolve, batch_sharding, residuals, cotangent):
    x, narrow, kernel = residuals
    (x_cotangent,) = jax.linear_transpose(lambda x: convolve(x, narrow), x)(cotangent)

    def compute_kernel_gradient(x, cotangent, kernel):
        return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(cotangent)[0]

    if batch_sharding is None:
        gradient = compute_kernel_gradient(x, cotangent, narrow)
        return x_cotangent, gradient.astype(kernel.dtype)
    batch, axes = batch_sharding.spec, batch_sharding.spec[0]

    @partial(
        jax.shard_map,
        mesh=batch_sharding.mesh,
        in_specs=(batch, batch, PartitionSpec()),
        out_specs=PartitionSpec(),
    )
    def sum_kernel_gradients(x, cotangent, kernel):
        # Without the cast the transposition itself sums over the devices, in bfloat16.
        kernel = jax.lax.pcast(kernel, axes, to="varying")
        gradient = compute_kernel_gradient(x, cotangent, kernel)
        return jax.lax.psum(gradient.astype(jnp.float32), axes)

    return x_cotangent, sum_kernel_gradients(x, cotangent, narrow).astype(kernel.dtype)


convolve_narrow.defvjp(_forward, _backward)
