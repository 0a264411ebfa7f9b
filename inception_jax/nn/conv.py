"""Convolutions and matrix products with the bias, norm and activation that follow them.

Kernels get float32 gradients also where they are used in bfloat16. Autodiff of a cast gives a
bfloat16 gradient, and `jit` sums that array over the devices of a mesh; the custom VJPs below
return the float32 accumulator of the product instead.

Note: Without them, 99 % of the bytes of Inception-v3's gradients, compiled for TPU v5e, were
all-reduced in bfloat16 (8 bits of precision).
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn.gpu.conv import convolve_low_precision
from inception_jax.nn.gpu.norm import normalise_and_activate
from inception_jax.nn.norm import BatchNorm, Mask, Moments, compute_moments
from inception_jax.nn.pooling import flip_sign, pool
from inception_jax.spec import vocabulary as words
from inception_jax.spec.geometry import make_window
from inception_jax.spec.rewritten import PooledConv, SiblingConcat
from inception_jax.spec.vocabulary import Architecture, Conv, Init, Linear, Pair, name_words

ACTIVATIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "linear": lambda x: x}
NHWC = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # kernels are HWIO
# The gradient of a kernel is a convolution that sums over examples: CHWN, IHWO, HWNC.
KERNEL_GRADIENT = jax.lax.ConvDimensionNumbers((3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1))


class Mode(NamedTuple):
    """The way in which a network is run.

    Attributes:
      train: Whether norms take the statistics of the batch and dropout is applied.
      mask: [B], true for the examples that count towards batch statistics; None for all.
    """

    train: bool
    mask: Mask = None


class KernelOutput(NamedTuple):
    """The output of a kernel, [B, H, W, C], and its moments where they are computed already."""

    values: jax.Array
    moments: Moments | None = None


def make_initializer(init: Init) -> jax.nn.initializers.Initializer:
    """Returns the Flax initialiser of the distribution that `init` names."""
    if init.fan:
        return nn.initializers.variance_scaling(init.scale, init.fan, init.distribution)
    # truncated_normal or normal
    return getattr(nn.initializers, init.distribution)(init.scale)


class NetworkPart(nn.Module):
    """The base class of all modules of one network, with the fields that they share."""

    architecture: Architecture
    num_classes: int = 1000
    dtype: Any = jnp.float32
    norm: partial[BatchNorm] = partial(BatchNorm)
    per_activation: bool = False
    precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST
    rewrites: tuple[str, ...] = ()
    batch_sharding: jax.sharding.NamedSharding | None = None

    @property
    def param_dtype(self) -> Any:
        """Returns the dtype of parameters: that of the activations, at least float32."""
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def shared(self) -> dict[str, Any]:
        """Returns the shared fields, for the modules below this one."""
        names = [item.name for item in fields(NetworkPart) if item.name not in ("parent", "name")]
        return {name: getattr(self, name) for name in names}

    def make_kernel(
        self, shape: tuple[int, ...], init: Init | None, name: str = "kernel"
    ) -> jax.Array:
        """Returns a kernel parameter; `init` is None for the unit's."""
        initializer = make_initializer(init or self.architecture.unit.init)
        return self.param(name, initializer, shape, self.param_dtype)

    def add_bias(self, x: jax.Array, value: float) -> jax.Array:
        """Returns `x` plus a bias parameter that is initialised to `value`."""
        bias = self.param("bias", nn.initializers.constant(value), x.shape[-1:], self.param_dtype)
        # Added in the dtype of the bias, so that its gradient has that too.
        return (x + bias).astype(x.dtype)

    @property
    def norm_fields(self) -> dict[str, Any]:
        """Returns the fields of every norm: the unit's, overridden by the recipe's."""
        unit = self.architecture.unit
        own = {
            "epsilon": unit.norm_epsilon,
            "use_scale": unit.norm_scale,
            "running_variance": unit.running_variance,
        }
        passes = {"passes": 1} if "single_pass_moments" in self.rewrites else {}
        return {**own, **passes, **self.norm.keywords, "per_activation": self.per_activation}

    def apply_norm(
        self, x: jax.Array, name: str, mode: Mode, activation: words.Activation | None, **given: Any
    ) -> jax.Array:
        """Applies the norm called `name` and an activation; None for the unit's.

        Args:
          given: The initial `gamma`, default 1; `moments` that are computed already. Where norms
            are fused, a max pool before the norm, as its `window`, and a `shortcut` that is added
            behind it. None for none.
        """
        gamma = given.pop("gamma", 1.0)
        activation = activation or self.architecture.unit.activation
        given = {key: value for key, value in given.items() if value is not None}
        is_fused, is_relu = self.fuses_norms(mode), activation == "relu"
        if is_fused:
            given = {"fused": partial(normalise_and_activate, is_relu=is_relu, **given)}
        given |= {} if mode.mask is None else {"mask": mode.mask}
        norm = self.norm(**self.norm_fields, scale_init=gamma, name=name)
        x = norm(x, train=mode.train, **given)
        return x if is_fused and is_relu else self.apply_activation(x, activation)

    def compute_norm_moments(
        self, x: jax.Array, reference_mean: jax.Array | None, mode: Mode
    ) -> Moments | None:
        """Returns the moments that the norm after `x` would compute.

        Args:
          reference_mean: The norm's running mean.

        Returns:
          None where the norm computes none, or takes none from outside.
        """
        norm = self.norm(**self.norm_fields, parent=None)
        if reference_mean is None or not _takes_moments(norm, mode) or self.fuses_norms(mode):
            return None
        group = norm.examples_per_group
        return compute_moments(x, reference_mean, mode.mask, examples=group, passes=norm.passes)

    def fuses_norms(self, mode: Mode) -> bool:
        """Returns whether a norm and what stands beside it are one operation."""
        norm = self.norm(**self.norm_fields, parent=None)
        return "fused_norm" in self.rewrites and _takes_moments(norm, mode)

    def apply_activation(self, x: jax.Array, activation: words.Activation | None) -> jax.Array:
        """Applies an activation; None for the unit's."""
        return ACTIVATIONS[activation or self.architecture.unit.activation](x)

    def convolve_1x1(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Returns the 1x1 convolution of `x` [B, H, W, C] with `kernel` [C, F].

        Note: As a matrix product it is twice as fast in a training step on a CPU.
        """
        if "keep_convolutions" in self.rewrites:
            return self.convolve(x, kernel[None, None], (1, 1), ((0, 0), (0, 0)))
        return multiply(x, kernel)

    @property
    def convolve(self) -> Callable[..., jax.Array]:
        """Returns `convolve`, or the same with kernel gradients of low precision."""
        if "low_precision_kernel_gradients" not in self.rewrites:
            return convolve
        return partial(convolve_low_precision, _convolve, self.batch_sharding)

    def multiply_siblings(
        self, word: SiblingConcat, x: jax.Array, mode: Mode
    ) -> dict[int, KernelOutput]:
        """Returns the outputs of the first convolutions of sibling branches, by branch.

        One product computes all of them, and in training one pass their moments. The norms are not
        merged: each would read a slice of the shared output, which XLA would have to copy.
        """
        paths = [(f"branch_{i}", next(name_words(word.branches[i]))[0]) for i in word.siblings]
        filters = word.filters(x.shape[-1])
        if word.merged:
            kernel = self.make_kernel((1, 1, x.shape[-1], sum(filters)), None, "merged")[0, 0]
        else:
            kernels = [self.variables["params"][branch][conv]["kernel"] for branch, conv in paths]
            # For a TPU the axes go before the concatenation: otherwise libtpu holds 3.11 GB instead
            # of 2.57 GB for Inception-v3 on v5e. For a GPU they go after it: otherwise XLA copies
            # 31 kernels of BN-Inception.
            if "low_precision_kernel_gradients" not in self.rewrites:
                kernels = [kernel[0, 0] for kernel in kernels]
            kernel = jnp.concatenate(kernels, axis=-1).reshape(x.shape[-1], -1)
        output, ends = self.convolve_1x1(x, kernel), np.cumsum(filters)[:-1]
        stats = self.variables.get("batch_stats", {})
        norms = [stats.get(branch, {}).get(conv, {}).get("norm", {}) for branch, conv in paths]
        means = [norm.get("mean") for norm in norms]
        reference_mean = None if None in means else jnp.concatenate(means, axis=-1)
        moments = self.compute_norm_moments(output, reference_mean, mode)
        slices = zip(word.siblings, jnp.split(output, ends, axis=-1), strict=True)
        if moments is None:
            return {i: KernelOutput(values) for i, values in slices}
        mean, variance = (jnp.split(moment, ends, axis=-1) for moment in moments[:2])
        own = [Moments(*pair, moments.values) for pair in zip(mean, variance, strict=True)]
        return {i: KernelOutput(values, own[j]) for j, (i, values) in enumerate(slices)}


class Convolution(NetworkPart):
    """A convolution with bias, norm and activation, as its `Conv` says.

    A 1x1 kernel has the shape [1, 1, in, out] also where a matrix product computes it.
    """

    word: Conv = Conv(None, (1, 1))

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mode: Mode,
        product: KernelOutput | None = None,
        shortcut: jax.Array | None = None,
    ) -> jax.Array:
        """Convolves `x` [B, H, W, C].

        Args:
          product: The output of the kernel, where it is computed already.
          shortcut: Added to the norm's output before a ReLU; only where norms are fused.
        """
        word, unit = self.word, self.architecture.unit
        pool, window = (word.pool if isinstance(word, PooledConv) else None), None
        is_pool_fused = pool is not None and pool.kind == "max" and self.fuses_norms(mode)
        x, moments = product or KernelOutput(self.apply_kernel(x, is_pool_fused))
        norm, bias = unit.get_norm_and_bias(word)
        if pool and is_pool_fused:
            window = make_window(pool, x.shape[1:], unit.same)
        elif pool:
            x, moments = self.apply_pool(x, pool, mode)
        if bias:
            x, moments = self.add_bias(x, unit.bias_init), None
        activation = word.activation if shortcut is None else "relu"
        if not norm:
            return self.apply_activation(x, activation)
        beside = {"moments": moments, "window": window, "shortcut": shortcut}
        return self.apply_norm(x, "norm", mode, activation, gamma=word.gamma_init, **beside)

    def get_norm_variable(self, collection: str, name: str) -> jax.Array | None:
        """Returns a variable of this convolution's norm; None before it is initialised."""
        return self.variables.get(collection, {}).get("norm", {}).get(name)

    def apply_kernel(self, x: jax.Array, is_pool_fused: bool) -> jax.Array:
        """Returns the convolution of `x` with the kernel, before bias and norm.

        Before a max pool that is not fused it has the sign of gamma.
        """
        word, channels = self.word, x.shape[-1]
        kernel, _, padding = make_window(word, x.shape[1:], self.architecture.unit.same)
        if word.depth_multiplier:
            shape = (*kernel, 1, channels * word.depth_multiplier)
            depthwise = self.make_kernel(shape, word.init, "depthwise_kernel")
            x = self.convolve(x, depthwise, word.stride, padding, groups=channels)
            kernel = (1, 1)
        weights = self.make_kernel((*kernel, x.shape[-1], word.filters or channels), word.init)
        if isinstance(word, PooledConv) and word.pool.kind == "max" and not is_pool_fused:
            weights = flip_sign(weights, self.get_norm_variable("params", "scale"))
        is_1x1 = kernel == word.stride == (1, 1) and padding == ((0, 0), (0, 0))
        if word.depth_multiplier or is_1x1:
            return self.convolve_1x1(x, weights.reshape(weights.shape[2:]))
        return self.convolve(x, weights, word.stride, padding)

    def apply_pool(self, x: jax.Array, word: words.Pool, mode: Mode) -> KernelOutput:
        """Returns the pooled output of the kernel.

        For a max pool `x` has the sign of gamma, and the moments are those of all values before the
        pool, which the norm would see without the rewrite.
        """
        y, gamma = pool(x, word, self.architecture.unit), self.get_norm_variable("params", "scale")
        if word.kind == "avg":
            return KernelOutput(y)
        mean = self.get_norm_variable("batch_stats", "mean")
        moments = self.compute_norm_moments(flip_sign(x, gamma), mean, mode)
        return KernelOutput(flip_sign(y, gamma), moments)


class Classifier(NetworkPart):
    """A fully connected layer with bias, norm and activation, as its `Linear` says.

    Logits and the product that gives them are at least float32; by default a TPU multiplies in
    bfloat16 and a GPU in TF32.
    """

    word: Linear = Linear()

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        """Multiplies `x` [B, ...], flattened, with the kernel: [B, features]."""
        word, is_logits = self.word, self.word.features is None
        features = self.num_classes if word.features is None else word.features
        x = x.reshape(x.shape[0], -1).astype(self.param_dtype if is_logits else self.dtype)
        init = word.init or self.architecture.unit.linear_init
        kernel = self.make_kernel((x.shape[-1], features), init)
        x = multiply(x, kernel, self.precision if is_logits else None)
        if word.bias:
            x = self.add_bias(x, word.bias_init)
        if word.norm:
            return self.apply_norm(x, "norm", mode, word.activation)
        return self.apply_activation(x, word.activation)


def _takes_moments(norm: nn.Module, mode: Mode) -> bool:
    """Returns whether a norm normalises with moments of the batch that a rewrite may compute."""
    return mode.train and bool(vars(type(norm)).get("is_batch_norm")) and not norm.frozen


def convolve(
    x: jax.Array, kernel: jax.Array, stride: Pair, padding: Sequence[Pair], groups: int = 1
) -> jax.Array:
    """Convolves `x` [B, H, W, C] with `kernel` [h, w, C / groups, F], cast to the dtype of `x`.

    Args:
      padding: (before, after) in pixels, for rows and columns.
    """
    convolve_in = _convolve if x.dtype == kernel.dtype else _convolve_narrow
    return convolve_in(x, kernel, stride, padding, groups)


def multiply(
    x: jax.Array, kernel: jax.Array, precision: jax.lax.Precision | None = None
) -> jax.Array:
    """Multiplies `x` [..., C] with `kernel` [C, F], cast to the dtype of `x`.

    Args:
      precision: Precision of the product where both have the same dtype.
    """
    if x.dtype == kernel.dtype:
        return jnp.matmul(x, kernel, precision=precision)
    return _multiply_narrow(x, kernel)


def _convolve(
    x: jax.Array, kernel: jax.Array, stride: Pair, padding: Sequence[Pair], groups: int = 1
) -> jax.Array:
    kernel = kernel.astype(x.dtype)
    return jax.lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=NHWC, feature_group_count=groups
    )


_convolve_narrow = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3, 4))


def _convolve_backward(stride, padding, groups, residuals, cotangent):
    x, kernel = residuals
    transpose = jax.linear_transpose(lambda x: _convolve(x, kernel, stride, padding, groups), x)
    (x_cotangent,) = transpose(cotangent)
    # The result has the size of the kernel: a negative padding drops pixels that no window reached.
    after = [
        (cotangent.shape[1 + i] - 1) * stride[i] + kernel.shape[i] - x.shape[1 + i] - padding[i][0]
        for i in (0, 1)
    ]
    kernel_cotangent = jax.lax.conv_general_dilated(
        x, cotangent, (1, 1), [(padding[i][0], after[i]) for i in (0, 1)], rhs_dilation=stride,
        dimension_numbers=KERNEL_GRADIENT, batch_group_count=groups,
        preferred_element_type=kernel.dtype,
    )  # fmt: skip
    return x_cotangent, kernel_cotangent


_convolve_narrow.defvjp(
    lambda x, kernel, *window: (_convolve(x, kernel, *window), (x, kernel)), _convolve_backward
)


@jax.custom_vjp
def _multiply_narrow(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return x @ kernel.astype(x.dtype)


def _multiply_backward(residuals, cotangent):
    x, kernel = residuals
    gradient = jnp.einsum("...c,...f->cf", x, cotangent, preferred_element_type=kernel.dtype)
    return cotangent @ kernel.astype(cotangent.dtype).T, gradient


_multiply_narrow.defvjp(lambda x, k: (_multiply_narrow(x, k), (x, k)), _multiply_backward)
