"""From a table to a Flax module: the one interpreter of the vocabulary."""

import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.conv import Classifier, Convolution, KernelOutput, NetworkPart
from inception_jax.nn.norm import Mask
from inception_jax.nn.pooling import normalise_local_response, pool
from inception_jax.spec import vocabulary as words
from inception_jax.spec.measure import check_image_size, make_expansion_conv
from inception_jax.spec.rewrite import rewrite, validate_norm
from inception_jax.spec.rewritten import SiblingConcat
from inception_jax.spec.vocabulary import Conv, Linear, Steps, name_words


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


def load_module(path: str) -> type[nn.Module]:
    """Returns the class that an open word names as `package.module:Class`; ValueError where it cannot be imported."""
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the open word names {path!r}, which cannot be imported ({error}): write 'package.module:Class'"
        ) from error


class Block(NetworkPart):
    """The words of one named place: an end point, a branch, a shortcut."""

    steps: Steps = ()

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: Mask = None, product: KernelOutput | None = None
    ) -> jax.Array:
        """Applies all words to `x`; `product` is what the first one's kernel has given already."""
        return self.follow(self.steps, x, train, mask, product)

    def follow(
        self,
        steps: Steps,
        x: jax.Array,
        train: bool,
        mask: Mask,
        product: KernelOutput | None = None,
    ) -> jax.Array:
        for name, word in name_words(steps):
            match word:
                case Conv():
                    x = Convolution(**self.shared, word=word, name=name)(x, train, mask, product)
                case Linear():
                    x = Classifier(**self.shared, word=word, name=name)(x, train, mask)
                case words.Pool():
                    x = pool(x, word, self.architecture.unit)
                case words.Concat():
                    x = jnp.concatenate(self.branches(word, x, train, mask), axis=-1)
                case words.Softmax():
                    x = nn.softmax(x)
                case words.Residual():
                    x = self.residual(word, x, train, mask)
                case words.Dropout():
                    rate = self.architecture.dropout_rate if word.rate is None else word.rate
                    x = nn.Dropout(rate, deterministic=not train)(x)
                case words.NormAct():
                    x = self.apply_activation(
                        self.apply_norm(x, name, train, mask), word.activation
                    )
                case words.LocalResponse():
                    x = normalise_local_response(x, word.size, word.alpha, word.beta, word.k)
                case words.Layer():
                    x = load_module(word.module)(**dict(word.fields), name=name)(x, train=train)
                case _:
                    raise words.UnknownWordError(
                        f"{name}: {word!r} is no word that a table is made of"
                    )
            product = None
        return x

    def branches(
        self, word: words.Concat, x: jax.Array, train: bool, mask: Mask
    ) -> list[jax.Array]:
        products = (
            self.multiply_siblings(word, x, train, mask) if isinstance(word, SiblingConcat) else {}
        )
        blocks = [
            Block(**self.shared, steps=steps, name=f"branch_{i}")
            for i, steps in enumerate(word.branches)
        ]
        return [block(x, train, mask, products.get(i)) for i, block in enumerate(blocks)]

    def residual(self, word: words.Residual, x: jax.Array, train: bool, mask: Mask) -> jax.Array:
        inputs = (
            self.apply_activation(self.apply_norm(x, "norm", train, mask), None)
            if word.preactivation
            else x
        )
        y = self.follow(word.branch, inputs, train, mask)
        if word.expansion_conv:
            y = Convolution(**self.shared, word=make_expansion_conv(x.shape[-1]), name="up")(
                y, train, mask
            )
        if word.shortcut == "pad":
            x = jnp.pad(
                x[:, :: word.stride[0], :: word.stride[1]],
                ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])),
            )
        elif word.shortcut is not None:
            x = Block(**self.shared, steps=word.shortcut, name="shortcut")(inputs, train, mask)
        total = x + word.scale * y
        return self.apply_activation(
            self.apply_norm(total, "sum_norm", train, mask) if word.norm else total, word.activation
        )


class Network(NetworkPart):
    """A network of the family as a Flax module, with the collections `params` and `batch_stats`.

    Attributes:
      architecture: the table.
      num_classes: 0 for the pooled features instead of logits.
      aux: run the auxiliary heads while training. They have no part in evaluation.
      dtype: of the activations; parameters and statistics are at least float32.
      norm: `BatchNorm` with the recipe's fields set: `functools.partial(BatchNorm, examples_per_group=32)`.
      precision: of the product that gives the logits, where it is one of float32; None for the platform's default.
      per_activation_in: end points whose norms keep statistics, gamma and beta for each position too.
      recompute: end points, by patterns, whose inside a backward pass computes again instead of keeping it.
      rewrites: rules and options of `spec.rewrite` by which the table is run; parameters keep their names and shapes.
    """

    aux: bool = False
    per_activation_in: tuple[str, ...] = ()
    recompute: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        mask: Mask = None,
        end_points: Sequence[str] = (),
        stop: bool = False,
    ) -> Outputs:
        """Classifies `images` [B, H, W, C], scaled to [-1, 1].

        Args:
          train: normalise with the batch's statistics and update the running ones (needs `mutable=["batch_stats"]`),
            drop out (needs a "dropout" key where the table has any), run the auxiliary heads.
          mask: [B], true for the examples that batch statistics are of (the module of a `layer` has none of it); all where not given.
          end_points: names of activations to return as well.
          stop: end at the deepest of `end_points`, legal for images too small for the rest; `logits` is then None.

        Raises:
          TooSmallError: images in which some window does not fit.
          ValueError: an end point the table does not have; `train=True` where `batch_stats` is not mutable.
          RewriteError: a rewrite that this norm cannot have.
        """
        chex.assert_rank(images, 4)
        validate_norm(self.rewrites, self.norm.func, needed=self.architecture.unit.norm)
        table = self.architecture if self.num_classes else self.architecture.embedding
        table = replace(
            table, aux=table.aux if self.aux and (train or self.is_initializing()) else ()
        )
        deepest = table.truncate(end_points)  # raises where there is no such end point
        table = deepest if stop and end_points else table
        check_image_size(
            table, (images.shape[1], images.shape[2]), images.shape[3]
        )  # names the place of what cannot be
        if not self.is_initializing():
            table = rewrite(
                table,
                self.rewrites,
                keep=(
                    *end_points,
                    *self.per_activation_in,
                    *(head.at for head in self.architecture.aux),
                ),
            )
        x, aux, kept, shared = (
            images.astype(self.dtype),
            {},
            {},
            {**self.shared, "architecture": table},
        )

        def run(name: str, steps: Steps, x: jax.Array) -> jax.Array:
            block = (
                nn.remat(Block, static_argnums=(2,))
                if any(fnmatchcase(name, pattern) for pattern in self.recompute)
                else Block
            )
            return block(
                **{**shared, "per_activation": name in self.per_activation_in},
                steps=steps,
                name=name,
            )(x, train, mask)

        for name, steps in table.layers:
            x = kept[name] = run(name, steps, x)
            for head in table.aux:
                if head.at == name:
                    aux[head.name] = kept[head.name] = run(head.name, head.steps, x)
        logits = None if stop and end_points else kept[table.logits_row or name]
        return Outputs(
            logits, tuple(aux.values()) if train else (), {name: kept[name] for name in end_points}
        )
