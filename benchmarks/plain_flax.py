"""The Flax peer: networks of our tables in `flax.linen`'s own layers, as written by hand.

It has `nn.Conv`, `nn.BatchNorm`, `nn.max_pool` and `nn.avg_pool` where the figure has them, without
merging or reordering.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn.conv import ACTIVATIONS
from inception_jax.nn.create import create
from inception_jax.nn.network import Outputs
from inception_jax.nn.pooling import normalise_local_response
from inception_jax.spec.geometry import get_kernel, slide_windows
from inception_jax.spec.vocabulary import (
    Architecture,
    Concat,
    Conv,
    Dropout,
    Linear,
    LocalResponse,
    NormAct,
    Pool,
    Residual,
    Softmax,
    Steps,
    name_words,
)

EXPANSION = (1, 1)


class ConvNorm(nn.Module):
    word: Conv
    architecture: Architecture
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        word, unit = self.word, self.architecture.unit
        norm, bias = unit.get_norm_and_bias(word)
        padding = [
            (span.before, span.after) for span in slide_windows(word, x.shape[1:], unit.same)
        ]
        filters, kernel = word.filters or x.shape[-1], get_kernel(word, *x.shape[1:3])
        x = nn.Conv(
            filters, kernel, word.stride, padding, use_bias=bias, dtype=self.dtype, name="conv"
        )(x)
        if norm:
            x = batch_norm(self, "norm", train)(x)
        return ACTIVATIONS[word.activation or unit.activation](x)


def batch_norm(module, name, train):
    unit = module.architecture.unit
    return nn.BatchNorm(
        not train,
        momentum=0.9997,
        epsilon=unit.norm_epsilon,
        use_scale=unit.norm_scale,
        dtype=module.dtype,
        name=name,
    )


class Place(nn.Module):
    steps: Steps
    architecture: Architecture
    dtype: Any
    num_classes: int

    def place(self, steps, name):
        return Place(steps, self.architecture, self.dtype, self.num_classes, name=name)

    @nn.compact
    def __call__(self, x, train):
        return self.run(self.steps, x, train)

    def run(self, steps, x, train):
        unit = self.architecture.unit
        for name, word in name_words(steps):
            match word:
                case Conv():
                    x = ConvNorm(word, self.architecture, self.dtype, name=name)(x, train)
                case Pool(kernel=None):
                    x = x.mean((1, 2))
                case Pool():
                    padding = [
                        (span.before, span.after)
                        for span in slide_windows(word, x.shape[1:], unit.same)
                    ]
                    kernel = get_kernel(word, *x.shape[1:3])
                    if word.kind == "max":
                        x = nn.max_pool(x, kernel, word.stride, padding)
                    else:
                        x = nn.avg_pool(
                            x, kernel, word.stride, padding, unit.count_include_pad
                        ).astype(x.dtype)
                case Concat():
                    x = jnp.concatenate(
                        [
                            self.place(branch, f"branch_{i}")(x, train)
                            for i, branch in enumerate(word.branches)
                        ],
                        -1,
                    )
                case Residual():
                    x = self.residual(word, x, train)
                case NormAct():
                    x = nn.relu(batch_norm(self, name, train)(x))
                case Dropout():
                    x = nn.Dropout(self.architecture.dropout_rate, deterministic=not train)(x)
                case Linear():
                    x = nn.Dense(self.num_classes, name=name)(
                        x.astype(jnp.promote_types(x.dtype, jnp.float32))
                    )
                case LocalResponse():
                    x = normalise_local_response(x, word.size, word.alpha, word.beta, word.k)
                case Softmax():
                    pass
                case _:
                    raise ValueError(f"{word} has no plain form here")
        return x

    def residual(self, word, x, train):
        inputs = nn.relu(batch_norm(self, "norm", train)(x)) if word.preactivation else x
        y = self.run(word.branch, inputs, train)
        if word.expansion_conv:
            y = nn.Conv(x.shape[-1], EXPANSION, dtype=self.dtype, name="up")(y)
        if word.shortcut == "pad":
            added = y.shape[-1] - x.shape[-1]
            x = x[:, :: word.stride[0], :: word.stride[1]]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, added)))
        elif word.shortcut is not None:
            x = self.place(word.shortcut, "shortcut")(inputs, train)
        x = x + word.scale * y
        if word.norm:
            x = batch_norm(self, "sum_norm", train)(x)
        return ACTIVATIONS[word.activation or self.architecture.unit.activation](x)


class Plain(nn.Module):
    """The network without its auxiliary heads; what it gives back is as of ours."""

    architecture: Architecture
    num_classes: int = 1000
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        for name, steps in self.architecture.layers:
            x = Place(steps, self.architecture, self.dtype, self.num_classes, name=name)(x, train)
        return Outputs(x, (), {})


def theirs(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Our variables under the names that `plain`, variables of the same network in plain Flax, has.

    Raises:
      ValueError: an array that has no counterpart of its shape.
    """
    flat = {_key(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(ours)[0]}

    def of(path, leaf):
        found = flat.pop(_key([key for key in path if key.key != "conv"]))
        if found.shape != leaf.shape:
            raise ValueError(
                f"{jax.tree_util.keystr(path)} is {leaf.shape}, and ours is {found.shape}"
            )
        return found

    tree = jax.tree_util.tree_map_with_path(of, plain)
    if flat:
        raise ValueError(f"no counterpart in plain Flax: {', '.join(sorted(map('/'.join, flat)))}")
    return tree


def same_function(model: str) -> float:
    """How far the logits of plain Flax are from ours, from the same variables, on a CPU in
    float32; relative to the largest.
    """
    network = create(model)
    size = network.architecture.input_size
    shape = (1, size, size, network.architecture.channels)
    images = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    plain = Plain(network.architecture, network.num_classes)
    variables = jax.jit(network.init, compiler_options={"xla_backend_optimization_level": 0})(
        jax.random.key(0), images
    )
    ours = jax.jit(network.apply)(variables, images).logits
    peers = jax.jit(plain.apply)(
        theirs(variables, jax.eval_shape(plain.init, jax.random.key(0), images)), images
    ).logits
    return float(jnp.abs(ours - peers).max() / jnp.abs(ours).max())


def _key(path: Any) -> tuple[str, ...]:
    return tuple(key.key for key in path)
