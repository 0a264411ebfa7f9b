"""Convolutions and matrix products, and what follows them: bias, norm and activation.

In a narrow dtype kernels get their gradient in a wide one. By autodiff the gradient of a kernel that was cast to bfloat16 is a bfloat16
array, and it is that array which `jit` sums over the devices of a mesh: of Inception-v3's gradients, compiled for TPU v5e, 99 % went
through the wire with 8 bits of precision. Here the product that makes a kernel's gradient gives what it accumulates, float32, and that is
summed.
"""

from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn.norm import BatchNorm, Mask, Moments, compute_moments
from inception_jax.nn.pooling import Pairs, flip_sign, pool
from inception_jax.spec import vocabulary as words
from inception_jax.spec.geometry import get_kernel, slide_windows
from inception_jax.spec.rewritten import PooledConv, SiblingConcat
from inception_jax.spec.vocabulary import Architecture, Conv, Init, Linear, name_words

ACTIVATIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "linear": lambda x: x}
_PLAIN = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO, NHWC
_BY_KERNEL = jax.lax.ConvDimensionNumbers(
    (3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1)
)  # CHWN, IHWO, HWNC: examples are summed over


class KernelOutput(NamedTuple):
    """What a kernel gives, [B, H, W, C], and the moments of it where they are known."""

    values: jax.Array
    moments: Moments | None = None


def make_initializer(init: Init) -> jax.nn.initializers.Initializer:
    """Returns the Flax initialiser of the distribution that `init` names."""
    if init.fan:
        return nn.initializers.variance_scaling(init.scale, init.fan, init.distribution)
    return {"truncated_normal": nn.initializers.truncated_normal, "normal": nn.initializers.normal}[
        init.distribution
    ](init.scale)


class NetworkPart(nn.Module):
    """What every part of one network shares."""

    architecture: Architecture
    num_classes: int = 1000
    dtype: Any = jnp.float32
    norm: partial[BatchNorm] = partial(BatchNorm)
    per_activation: bool = False
    precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST
    rewrites: tuple[str, ...] = ()

    @property
    def param_dtype(self):
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def shared(self) -> dict[str, Any]:
        return {
            item.name: getattr(self, item.name)
            for item in fields(NetworkPart)
            if item.name not in ("parent", "name")
        }

    def kernel(self, shape: tuple[int, ...], init: Init | None, name: str = "kernel") -> jax.Array:
        return self.param(
            name, make_initializer(init or self.architecture.unit.init), shape, self.param_dtype
        )

    def add_bias(self, x: jax.Array, value: float) -> jax.Array:
        bias = self.param("bias", nn.initializers.constant(value), x.shape[-1:], self.param_dtype)
        return (x + bias).astype(x.dtype)  # added, and so learned, in the dtype of the bias

    @property
    def norm_fields(self) -> dict[str, Any]:
        unit = self.architecture.unit
        release = {
            "epsilon": unit.norm_epsilon,
            "use_scale": unit.norm_scale,
            "running_variance": unit.running_variance,
        }
        passes = {"passes": 1} if "single_pass_moments" in self.rewrites else {}
        return {**release, **passes, **self.norm.keywords, "per_activation": self.per_activation}

    def apply_norm(
        self,
        x: jax.Array,
        name: str,
        train: bool,
        mask: Mask,
        gamma: float = 1.0,
        moments: Moments | None = None,
    ) -> jax.Array:
        known: dict[str, Any] = {
            key: value for key, value in (("mask", mask), ("moments", moments)) if value is not None
        }
        return self.norm(**self.norm_fields, scale_init=gamma, name=name)(x, train=train, **known)

    def moments(
        self, x: jax.Array, near: jax.Array | None, train: bool, mask: Mask
    ) -> Moments | None:
        """Returns the moments that the norm behind `x` would take, about its running means `near`; None where it takes none."""
        norm = self.norm(**self.norm_fields, parent=None)
        if near is None or not train or not vars(type(norm)).get("is_batch_norm") or norm.frozen:
            return None
        return compute_moments(x, near, mask, examples=norm.examples_per_group, passes=norm.passes)

    def apply_activation(self, x: jax.Array, activation: words.Activation | None) -> jax.Array:
        return ACTIVATIONS[activation or self.architecture.unit.activation](x)

    def pointwise(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Returns the 1x1 convolution of `x` [B, H, W, C] with `kernel` [C, F]. In a CPU's training step the product is twice as fast."""
        if "keep_convolutions" in self.rewrites:
            return convolve(x, kernel[None, None], (1, 1), ((0, 0), (0, 0)))
        return multiply(x, kernel)

    def multiply_siblings(
        self, word: SiblingConcat, x: jax.Array, train: bool, mask: Mask
    ) -> dict[int, KernelOutput]:
        """Returns the products of the first convolutions of the siblings, by branch, computed as one, and in training their moments.

        The norms themselves are not joined: each would read a piece of what they share, which has then to be copied.
        """
        places = [(f"branch_{i}", next(name_words(word.branches[i]))[0]) for i in word.siblings]
        filters = word.filters(x.shape[-1])
        if word.merged:  # [0, 0] of each before they are joined: after it libtpu holds 3.11 GB for Inception-v3 on v5e, so 2.57
            kernel = self.kernel((1, 1, x.shape[-1], sum(filters)), None, "merged")[0, 0]
        else:
            kernel = jnp.concatenate(
                [self.variables["params"][branch][conv]["kernel"][0, 0] for branch, conv in places],
                axis=-1,
            )
        whole, ends = self.pointwise(x, kernel), np.cumsum(filters)[:-1]
        stats = self.variables.get("batch_stats", {})
        means = [
            stats.get(branch, {}).get(conv, {}).get("norm", {}).get("mean")
            for branch, conv in places
        ]
        moments = self.moments(
            whole, None if None in means else jnp.concatenate(means, axis=-1), train, mask
        )
        parts: list[Moments | None] = [None] * len(places)
        if moments is not None:
            pairs = zip(
                jnp.split(moments.mean, ends, axis=-1),
                jnp.split(moments.variance, ends, axis=-1),
                strict=True,
            )
            parts = [Moments(*pair, moments.values) for pair in pairs]
        return {
            i: KernelOutput(x, part)
            for i, x, part in zip(
                word.siblings, jnp.split(whole, ends, axis=-1), parts, strict=True
            )
        }


class Convolution(NetworkPart):
    """A `Conv` at work: kernel, bias, norm and activation. A 1x1 kernel keeps the shape [1, 1, in, out], whatever it is computed as."""

    word: Conv = Conv(None, (1, 1))

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: Mask = None, product: KernelOutput | None = None
    ) -> jax.Array:
        """Convolves `x` [B, H, W, C]; with `product` follows what its kernel has given already."""
        word, unit = self.word, self.architecture.unit
        x, moments = product or KernelOutput(self.product(x))
        norm, bias = unit.get_norm_and_bias(word)
        if isinstance(word, PooledConv):
            x, moments = self.pooled(x, word.pool, train, mask)
        if bias:
            x, moments = self.add_bias(x, unit.bias_init), None
        if norm:
            x = self.apply_norm(x, "norm", train, mask, word.gamma_init, moments)
        return self.apply_activation(x, word.activation)

    def of_norm(self, collection: str, name: str) -> jax.Array | None:
        """Returns a variable of the norm behind, where it has it already."""
        return self.variables.get(collection, {}).get("norm", {}).get(name)

    def product(self, x: jax.Array) -> jax.Array:
        word, channels = self.word, x.shape[-1]
        kernel = get_kernel(word, *x.shape[1:3])
        padding = tuple(
            (span.before, span.after)
            for span in slide_windows(word, x.shape[1:], self.architecture.unit.same)
        )
        if word.depth_multiplier:
            depthwise = self.kernel(
                (*kernel, 1, channels * word.depth_multiplier), word.init, "depthwise_kernel"
            )
            x = convolve(x, depthwise, word.stride, padding, groups=channels)
            kernel = (1, 1)
        weights = self.kernel((*kernel, x.shape[-1], word.filters or channels), word.init)
        if isinstance(word, PooledConv) and word.pool.kind == "max":
            weights = flip_sign(weights, self.of_norm("params", "scale"))
        if word.depth_multiplier or (
            kernel == word.stride == (1, 1) and padding == ((0, 0), (0, 0))
        ):
            return self.pointwise(x, weights.reshape(weights.shape[2:]))
        return convolve(x, weights, word.stride, padding)

    def pooled(self, x: jax.Array, word: words.Pool, train: bool, mask: Mask) -> KernelOutput:
        """Returns what a norm is given of pooled values: under a maximum, of values times gamma's sign, also the moments of all of them."""
        y, gamma = pool(x, word, self.architecture.unit), self.of_norm("params", "scale")
        if word.kind == "avg":
            return KernelOutput(y)
        return KernelOutput(
            flip_sign(y, gamma),
            self.moments(flip_sign(x, gamma), self.of_norm("batch_stats", "mean"), train, mask),
        )


class Classifier(NetworkPart):
    """A `Linear` at work. Logits, and what computes them, are at least float32: by default a TPU has bfloat16 there, a GPU TF32."""

    word: Linear = Linear()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: Mask = None) -> jax.Array:
        word, features = (
            self.word,
            self.num_classes if self.word.features is None else self.word.features,
        )
        x = x.reshape(x.shape[0], -1).astype(
            self.param_dtype if word.features is None else self.dtype
        )
        kernel = self.kernel(
            (x.shape[-1], features), word.init or self.architecture.unit.linear_init
        )
        x = multiply(x, kernel, self.precision if word.features is None else None)
        if word.bias:
            x = self.add_bias(x, word.bias_init)
        if word.norm:
            x = self.apply_norm(x, "norm", train, mask)
        return self.apply_activation(x, word.activation)


def convolve(
    x: jax.Array, kernel: jax.Array, stride: tuple[int, int], padding: Pairs, groups: int = 1
) -> jax.Array:
    """Convolves `x` [B, H, W, C] with `kernel` [h, w, C / groups, F], which is cast to the dtype of `x`, padded by (before, after)."""
    return (_plain if x.dtype == kernel.dtype else _wide)(x, kernel, stride, padding, groups)


def multiply(
    x: jax.Array, kernel: jax.Array, precision: jax.lax.Precision | None = None
) -> jax.Array:
    """Multiplies `x` [..., C] with `kernel` [C, F], which is cast to the dtype of `x`. `precision` is that of equal dtypes."""
    return (
        jnp.matmul(x, kernel, precision=precision)
        if x.dtype == kernel.dtype
        else _wide_multiply(x, kernel)
    )


def _plain(
    x: jax.Array, kernel: jax.Array, stride: tuple[int, int], padding: Pairs, groups: int
) -> jax.Array:
    kernel = kernel.astype(x.dtype)
    return jax.lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=_PLAIN, feature_group_count=groups
    )


_wide = jax.custom_vjp(_plain, nondiff_argnums=(2, 3, 4))


def _wide_backward(stride, padding, groups, kept, cotangent):
    x, kernel = kept
    (by_x,) = jax.linear_transpose(lambda x: _plain(x, kernel, stride, padding, groups), x)(
        cotangent
    )
    # As many places as the kernel has: what no window reached is cut off, by a negative padding.
    reach = [
        (cotangent.shape[1 + i] - 1) * stride[i] + kernel.shape[i] - x.shape[1 + i] - padding[i][0]
        for i in (0, 1)
    ]
    by_kernel = jax.lax.conv_general_dilated(
        x, cotangent, (1, 1), [(padding[i][0], reach[i]) for i in (0, 1)], rhs_dilation=stride, dimension_numbers=_BY_KERNEL,
        batch_group_count=groups, preferred_element_type=kernel.dtype,
    )  # fmt: skip
    return by_x, by_kernel


_wide.defvjp(lambda x, kernel, *window: (_plain(x, kernel, *window), (x, kernel)), _wide_backward)


_wide_multiply = jax.custom_vjp(lambda x, kernel: x @ kernel.astype(x.dtype))


def _multiply_backward(kept, cotangent):
    x, kernel = kept
    by_kernel = jnp.einsum("...c,...f->cf", x, cotangent, preferred_element_type=kernel.dtype)
    return cotangent @ kernel.astype(cotangent.dtype).T, by_kernel


_wide_multiply.defvjp(
    lambda x, kernel: (_wide_multiply(x, kernel), (x, kernel)), _multiply_backward
)
