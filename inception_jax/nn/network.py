"""From a table to a Flax module: the one interpreter of the vocabulary."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.models import architecture as registered
from inception_jax.nn.norm import BatchNorm
from inception_jax.nn.pooling import local_response, pool
from inception_jax.spec.geometry import slide
from inception_jax.spec.measure import expansion
from inception_jax.spec.vocabulary import (
    Activation,
    Architecture,
    Concat,
    Conv,
    Dropout,
    Layer,
    Linear,
    LocalResponse,
    Norm,
    Pool,
    Residual,
    Steps,
    named,
)
from inception_jax.spec.width import widen

ACTIVATIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "linear": lambda x: x}
KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class Outputs(NamedTuple):
    """What a network gives back.

    Attributes:
      logits: [B, num_classes], at least float32; the pooled [B, C] where num_classes is 0.
      aux: the auxiliary heads' logits, in the table's order; empty unless training with `aux=True`.
      end_points: the activations asked for, by name.
    """

    logits: jax.Array | None
    aux: tuple[jax.Array, ...]
    end_points: dict[str, jax.Array]


class Trunk(nn.Module):
    """What every part of one network shares."""

    architecture: Architecture
    num_classes: int = 1000
    dtype: Any = jnp.float32
    norm: partial[BatchNorm] = partial(BatchNorm)

    @property
    def param_dtype(self):
        return jnp.promote_types(self.dtype, jnp.float32)

    def normed(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        unit = self.architecture.unit
        return self.norm(epsilon=unit.norm_epsilon, use_scale=unit.norm_scale, name=name)(x, train=train)

    def activated(self, x: jax.Array, activation: Activation | None) -> jax.Array:
        return ACTIVATIONS[activation or self.architecture.unit.activation](x)

    @property
    def shared(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "num_classes": self.num_classes, "dtype": self.dtype, "norm": self.norm}


class Convolution(Trunk):
    """A `Conv` at work: kernel, bias, norm and activation.

    1x1 kernels are matrix products, twice as fast as a convolution in a CPU's training step; they keep the shape
    [1, 1, in, out].
    """

    word: Conv = Conv(None, (1, 1))

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        word, unit = self.word, self.architecture.unit
        filters = word.filters or x.shape[-1]
        spans = [slide(x.shape[1 + i], word.kernel[i], word.stride[i], word.padding, unit.same) for i in (0, 1)]
        padding = [(span.before, span.after) for span in spans]
        convolve = partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if word.depth_multiplier:
            channels = x.shape[-1]
            depthwise = self.kernel("depthwise_kernel", (*word.kernel, 1, channels * word.depth_multiplier))
            x = convolve(x, depthwise, word.stride, padding, feature_group_count=channels)
            x = pointwise(x, self.kernel("kernel", (1, 1, x.shape[-1], filters)))
        elif word.kernel == word.stride == (1, 1) and padding == [(0, 0), (0, 0)]:
            x = pointwise(x, self.kernel("kernel", (1, 1, x.shape[-1], filters)))
        else:
            x = convolve(x, self.kernel("kernel", (*word.kernel, x.shape[-1], filters)), word.stride, padding)
        if unit.bias if word.bias is None else word.bias:
            x = x + self.param("bias", nn.initializers.zeros, (filters,), self.param_dtype).astype(x.dtype)
        if unit.norm if word.norm is None else word.norm:
            x = self.normed(x, "norm", train)
        return self.activated(x, word.activation)

    def kernel(self, name: str, shape: tuple[int, ...]) -> jax.Array:
        return self.param(name, KERNEL_INIT, shape, self.param_dtype).astype(self.dtype)


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0])


class Classifier(Trunk):
    """A `Linear` at work. Logits, and what computes them, are at least float32."""

    word: Linear = Linear()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        word, features = self.word, self.num_classes if self.word.features is None else self.word.features
        dtype = self.param_dtype if word.features is None else self.dtype
        x = x.reshape(x.shape[0], -1).astype(dtype)
        if not features:
            return x
        x = x @ self.param("kernel", KERNEL_INIT, (x.shape[-1], features), self.param_dtype).astype(dtype)
        if word.bias:
            x = x + self.param("bias", nn.initializers.zeros, (features,), self.param_dtype).astype(dtype)
        if word.norm:
            x = self.normed(x, "norm", train)
        return self.activated(x, word.activation)


class Block(Trunk):
    """The words of one named place: an end point, a branch, a shortcut."""

    steps: Steps = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.run(self.steps, x, train)

    def run(self, steps: Steps, x: jax.Array, train: bool) -> jax.Array:
        for name, word in named(steps):
            match word:
                case Conv():
                    x = Convolution(**self.shared, word=word, name=name)(x, train)
                case Linear():
                    x = Classifier(**self.shared, word=word, name=name)(x, train)
                case Pool():
                    x = pool(x, word, self.architecture.unit)
                case Concat():
                    branches = enumerate(word.branches)
                    x = jnp.concatenate([self.branch(f"branch_{i}", steps, x, train) for i, steps in branches], axis=-1)
                case Residual():
                    x = self.residual(word, x, train)
                case Dropout():
                    rate = self.architecture.dropout_rate if word.rate is None else word.rate
                    x = nn.Dropout(rate, deterministic=not train)(x)
                case Norm():
                    x = self.activated(self.normed(x, name, train), word.activation)
                case LocalResponse():
                    x = local_response(x, word.size, word.alpha, word.beta, word.k)
                case Layer():
                    x = load(word.module)(**dict(word.fields), name=name)(x, train=train)
        return x

    def branch(self, name: str, steps: Steps, x: jax.Array, train: bool) -> jax.Array:
        return Block(**self.shared, steps=steps, name=name)(x, train)

    def residual(self, word: Residual, x: jax.Array, train: bool) -> jax.Array:
        inputs = self.activated(self.normed(x, "norm", train), None) if word.preactivation else x
        y = self.run(word.branch, inputs, train)
        if word.up:
            y = Convolution(**self.shared, word=expansion(x.shape[-1]), name="up")(y, train)
        if word.shortcut == "pad":
            x = x[:, :: word.stride[0], :: word.stride[1]]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
        elif word.shortcut is not None:
            x = self.branch("shortcut", word.shortcut, inputs, train)
        return self.activated(x + word.scale * y, word.activation)


class Network(Trunk):
    """A network of the family as a Flax module, with the collections `params` and `batch_stats`.

    Attributes:
      architecture: the table.
      num_classes: 0 for the pooled features instead of logits.
      aux: run the auxiliary heads while training. They have no part in evaluation.
      dtype: of the activations; parameters and statistics are at least float32.
      norm: `BatchNorm` with the recipe's fields set: `functools.partial(BatchNorm, examples_per_group=32)`.
    """

    aux: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, end_points: Sequence[str] = (), stop: bool = False) -> Outputs:
        """Classifies `images` [B, H, W, C], scaled to [-1, 1].

        Args:
          train: normalise with the batch's statistics and update the running ones (needs `mutable=["batch_stats"]`),
            drop out (needs a "dropout" key where the table has any), run the auxiliary heads.
          end_points: names of activations to return as well.
          stop: end at the deepest of `end_points`; `logits` is then None.

        Raises:
          ValueError: an end point the table does not have; `train=True` where `batch_stats` is not mutable.
        """
        chex.assert_rank(images, 4)
        names = [name for name, _ in self.architecture.layers]
        if unknown := set(end_points) - set(names):
            raise ValueError(f"{self.architecture.name} has no end point {', '.join(sorted(unknown))}; it has {', '.join(names)}")
        x, aux, kept = images.astype(self.dtype), [], {}
        for name, steps in self.architecture.layers:
            x = Block(**self.shared, steps=steps, name=name)(x, train)
            if name in end_points:
                kept[name] = x
                if stop and len(kept) == len(set(end_points)):
                    return Outputs(None, (), kept)
            for head in self.architecture.aux if self.aux and (train or self.is_initializing()) else ():
                if head.at == name:
                    aux.append(Block(**self.shared, steps=head.steps, name=head.name)(x, train))
        return Outputs(x, tuple(aux) if train else (), kept)


def create(
    name: str,
    *,
    variant: str | None = None,
    num_classes: int = 1000,
    aux: bool = False,
    width_multiplier: float = 1.0,
    dropout_rate: float | None = None,
    dtype: Any = jnp.float32,
    **norm: Any,
) -> Network:
    """The network registered under `name`, as a Flax module.

    Args:
      variant: a form of it (`paper`, `cadene`, ...); the registry's first where not given.
      num_classes: of the classifier, whatever the variant; 0 for pooled features.
      aux: with auxiliary heads while training.
      width_multiplier: times the filters of the table.
      dropout_rate: instead of the table's.
      norm: fields of `BatchNorm`: `examples_per_group`, `decay`, `running_variance`.

    Raises:
      UnknownModelError: no such name or variant.
    """
    table = widen(registered(name, variant), width_multiplier)
    if dropout_rate is not None:
        table = replace(table, dropout_rate=dropout_rate)
    return Network(table, num_classes=num_classes, dtype=dtype, norm=partial(BatchNorm, **norm), aux=aux)


def load(path: str) -> type[nn.Module]:
    """The class that an open word names as `package.module:Class`.

    Raises:
      ValueError: it cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the open word names {path!r}, which cannot be imported ({error}): write 'package.module:Class'") from error
