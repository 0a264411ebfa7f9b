"""From a table to a Flax module: the one interpreter of the vocabulary."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn.initializer import initializer
from inception_jax.nn.norm import BatchNorm
from inception_jax.nn.pooling import local_response, pool
from inception_jax.nn.product import convolve, convolve_blocks, multiply
from inception_jax.spec import vocabulary as words
from inception_jax.spec.geometry import kernel_on, windows
from inception_jax.spec.measure import check, expansion
from inception_jax.spec.rewrite import rewrite
from inception_jax.spec.vocabulary import Architecture, Conv, Linear, Steps, named

ACTIVATIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "linear": lambda x: x}

Part = Literal["whole", "kernel", "rest"]
"""Of a convolution: all of it, its kernel, or what follows the product."""


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
    per_activation_in: tuple[str, ...] = ()

    @property
    def param_dtype(self):
        return jnp.promote_types(self.dtype, jnp.float32)

    def kernel(self, shape: tuple[int, ...], init: words.Init | None, name: str = "kernel") -> jax.Array:
        return self.param(name, initializer(init or self.architecture.unit.init), shape, self.param_dtype)

    def biased(self, x: jax.Array, value: float) -> jax.Array:
        bias = self.param("bias", nn.initializers.constant(value), x.shape[-1:], self.param_dtype)
        return (x + bias).astype(x.dtype)  # added, and so learned, in the dtype of the bias

    def normed(self, x: jax.Array, name: str, train: bool, gamma: float = 1.0) -> jax.Array:
        unit = self.architecture.unit
        release = {"epsilon": unit.norm_epsilon, "use_scale": unit.norm_scale, "running_variance": unit.running_variance}
        fields = {**release, "passes": unit.norm_passes, **self.norm.keywords}
        positions = self.path[0] in self.per_activation_in
        return self.norm(**fields, scale_init=gamma, per_activation=positions, name=name)(x, train=train)

    def activated(self, x: jax.Array, activation: words.Activation | None) -> jax.Array:
        return ACTIVATIONS[activation or self.architecture.unit.activation](x)

    @property
    def shared(self) -> dict[str, Any]:
        names = ("architecture", "num_classes", "dtype", "norm", "per_activation_in")
        return {name: getattr(self, name) for name in names}


class Convolution(Trunk):
    """A `Conv` at work: kernel, bias, norm and activation.

    1x1 kernels are matrix products, twice as fast as a convolution in a CPU's training step; they keep the shape
    [1, 1, in, out].
    """

    word: Conv = Conv(None, (1, 1))

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, part: Part = "whole") -> jax.Array:
        word = self.word
        if part == "kernel":
            return self.kernel((1, 1, x.shape[-1], word.filters or x.shape[-1]), word.init)[0, 0]
        return self.finished(self.product(x) if part == "whole" else x, train)

    def product(self, x: jax.Array) -> jax.Array:
        word, unit = self.word, self.architecture.unit
        channels, filters = x.shape[-1], word.filters or x.shape[-1]
        kernel = kernel_on(word, *x.shape[1:3])
        padding = tuple((span.before, span.after) for span in windows(word, x.shape[1:], unit.same))
        if word.depth_multiplier:
            depthwise = self.kernel((*kernel, 1, channels * word.depth_multiplier), word.init, "depthwise_kernel")
            x = convolve(x, depthwise, word.stride, padding, groups=channels)
            kernel = (1, 1)
        weights = self.kernel((*kernel, x.shape[-1], filters), word.init)
        if word.depth_multiplier or (kernel == word.stride == (1, 1) and padding == ((0, 0), (0, 0))):
            return multiply(x, weights.reshape(weights.shape[2:]))
        return (convolve_blocks if word.blocks else convolve)(x, weights, word.stride, padding)

    def finished(self, x: jax.Array, train: bool) -> jax.Array:
        """What follows the product."""
        word, unit = self.word, self.architecture.unit
        if word.pool:
            x = pool(x, word.pool, unit)
        norm, bias = unit.of(word)
        if bias:
            x = self.biased(x, unit.bias_init)
        if norm:
            x = self.normed(x, "norm", train, word.gamma_init)
        return self.activated(x, word.activation)


class Classifier(Trunk):
    """A `Linear` at work. Logits, and what computes them, are at least float32."""

    word: Linear = Linear()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        word, features = self.word, self.num_classes if self.word.features is None else self.word.features
        x = x.reshape(x.shape[0], -1).astype(self.param_dtype if word.features is None else self.dtype)
        x = multiply(x, self.kernel((x.shape[-1], features), word.init or self.architecture.unit.linear_init))
        if word.bias:
            x = self.biased(x, word.bias_init)
        if word.norm:
            x = self.normed(x, "norm", train)
        return self.activated(x, word.activation)


class Block(Trunk):
    """The words of one named place: an end point, a branch, a shortcut."""

    steps: Steps = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, part: Part = "whole") -> jax.Array:
        """All of them; of those that begin with a 1x1 convolution its kernel alone, or what follows the product with that."""
        steps = list(named(self.steps))
        if part != "whole" and isinstance(first := steps[0][1], Conv):
            x, steps = Convolution(**self.shared, word=first, name=steps[0][0])(x, train, part), steps[1:]
        return x if part == "kernel" else self.follow(steps, x, train)

    def follow(self, steps: Iterable[tuple[str, words.Word]], x: jax.Array, train: bool) -> jax.Array:
        for name, word in steps:
            match word:
                case Conv():
                    x = Convolution(**self.shared, word=word, name=name)(x, train)
                case Linear():
                    x = Classifier(**self.shared, word=word, name=name)(x, train)
                case words.Pool():
                    x = pool(x, word, self.architecture.unit)
                case words.Concat():
                    x = jnp.concatenate(self.branches(word, x, train), axis=-1)
                case words.Softmax():
                    x = nn.softmax(x)
                case words.Residual():
                    x = self.residual(word, x, train)
                case words.Dropout():
                    rate = self.architecture.dropout_rate if word.rate is None else word.rate
                    x = nn.Dropout(rate, deterministic=not train)(x)
                case words.Norm():
                    x = self.activated(self.normed(x, name, train), word.activation)
                case words.LocalResponse():
                    x = local_response(x, word.size, word.alpha, word.beta, word.k)
                case words.Layer():
                    x = load(word.module)(**dict(word.fields), name=name)(x, train=train)
        return x

    def branches(self, word: words.Concat, x: jax.Array, train: bool) -> list[jax.Array]:
        blocks = [Block(**self.shared, steps=steps, name=f"branch_{i}") for i, steps in enumerate(word.branches)]
        products = {}
        if word.siblings:
            kernels = [blocks[i](x, train, "kernel") for i in word.siblings]
            ends = np.cumsum([kernel.shape[-1] for kernel in kernels])[:-1]
            products = dict(zip(word.siblings, jnp.split(multiply(x, jnp.concatenate(kernels, axis=-1)), ends, axis=-1), strict=True))
        return [block(products[i], train, "rest") if i in products else block(x, train) for i, block in enumerate(blocks)]

    def residual(self, word: words.Residual, x: jax.Array, train: bool) -> jax.Array:
        inputs = self.activated(self.normed(x, "norm", train), None) if word.preactivation else x
        y = self.follow(named(word.branch), inputs, train)
        if word.up:
            y = Convolution(**self.shared, word=expansion(x.shape[-1]), name="up")(y, train)
        if word.shortcut == "pad":
            x = x[:, :: word.stride[0], :: word.stride[1]]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
        elif word.shortcut is not None:
            x = Block(**self.shared, steps=word.shortcut, name="shortcut")(inputs, train)
        total = x + word.scale * y
        return self.activated(self.normed(total, "sum_norm", train) if word.norm else total, word.activation)


class Network(Trunk):
    """A network of the family as a Flax module, with the collections `params` and `batch_stats`.

    Attributes:
      architecture: the table.
      num_classes: 0 for the pooled features instead of logits.
      aux: run the auxiliary heads while training. They have no part in evaluation.
      dtype: of the activations; parameters and statistics are at least float32.
      norm: `BatchNorm` with the recipe's fields set: `functools.partial(BatchNorm, examples_per_group=32)`.
      per_activation_in: end points whose norms keep statistics, gamma and beta for each position too.
      recompute: end points, by patterns, whose inside a backward pass computes again instead of keeping it.
      rewrites: rules of `spec.rewrite` by which the table is run; parameters keep their names and shapes.
    """

    aux: bool = False
    recompute: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, end_points: Sequence[str] = (), stop: bool = False) -> Outputs:
        """Classifies `images` [B, H, W, C], scaled to [-1, 1].

        Args:
          train: normalise with the batch's statistics and update the running ones (needs `mutable=["batch_stats"]`),
            drop out (needs a "dropout" key where the table has any), run the auxiliary heads.
          end_points: names of activations to return as well.
          stop: end at the deepest of `end_points`, legal for images too small for the rest; `logits` is then None.

        Raises:
          TooSmallError: images in which some window does not fit.
          ValueError: an end point the table does not have; `train=True` where `batch_stats` is not mutable.
        """
        chex.assert_rank(images, 4)
        table = self.architecture if self.num_classes else self.architecture.embedding
        table = replace(table, aux=table.aux if self.aux and (train or self.is_initializing()) else ())
        deepest = table.up_to(end_points)
        if stop and end_points:
            table = deepest
        _, height, width, channels = images.shape
        check(table, (height, width), channels)  # names the place of what cannot be
        table = rewrite(table, self.rewrites)
        x, aux, kept, shared = images.astype(self.dtype), {}, {}, {**self.shared, "architecture": table}
        for name, steps in table.layers:
            again = any(fnmatchcase(name, pattern) for pattern in self.recompute)
            block = nn.remat(Block, static_argnums=(2,)) if again else Block
            x = kept[name] = block(**shared, steps=steps, name=name)(x, train)
            for head in table.aux:
                if head.at == name:
                    aux[head.name] = kept[head.name] = Block(**shared, steps=head.steps, name=head.name)(x, train)
        logits = None if stop and end_points else kept[table.logits or name]
        return Outputs(logits, tuple(aux.values()) if train else (), {name: kept[name] for name in end_points})


def load(path: str) -> type[nn.Module]:
    """The class that an open word names as `package.module:Class`; ValueError where it cannot be imported."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the open word names {path!r}, which cannot be imported ({error}): write 'package.module:Class'") from error
