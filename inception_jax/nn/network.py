"""The Flax module that runs a table: the interpreter of the vocabulary of `spec`."""

import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.conv import Classifier, Convolution, KernelOutput, Mode, NetworkPart
from inception_jax.nn.norm import Mask
from inception_jax.nn.pooling import normalise_local_response, pool
from inception_jax.spec import vocabulary as words
from inception_jax.spec.measure import check_image_size, make_expansion_conv
from inception_jax.spec.rewrite import ends_in_norm, rewrite, validate_norm
from inception_jax.spec.rewritten import SiblingConcat
from inception_jax.spec.vocabulary import Conv, Linear, Steps, name_words


class Outputs(NamedTuple):
    """The outputs of a network.

    Attributes:
      logits: [B, num_classes], at least float32; the pooled features [B, C] if num_classes is 0.
      aux: Logits of the auxiliary heads in the table's order; empty unless training with
        `aux=True`.
      end_points: The requested activations, by name.
    """

    logits: jax.Array | None
    aux: tuple[jax.Array, ...]
    end_points: dict[str, jax.Array]


def load_module(path: str) -> type[nn.Module]:
    """Returns the class that an open word names as `package.module:Class`.

    Raises:
      ValueError: It cannot be imported.
    """
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the open word names {path!r}, which cannot be imported ({error}): "
            "write 'package.module:Class'"
        ) from error


class Block(NetworkPart):
    """A sequence of words under one name: an end point, a branch or a shortcut."""

    steps: Steps = ()

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: Mask = None, product: KernelOutput | None = None
    ) -> jax.Array:
        """Applies all words to `x` [B, H, W, C].

        Args:
          product: The output of the first word's kernel, where it is computed already.
        """
        return self.apply_words(self.steps, x, Mode(train, mask), product)

    def apply_words(
        self,
        steps: Steps,
        x: jax.Array,
        mode: Mode,
        product: KernelOutput | None = None,
        shortcut: jax.Array | None = None,
    ) -> jax.Array:
        """Applies `steps` to `x`; `shortcut` is added by the last word, before a ReLU."""
        named = list(name_words(steps))
        for name, word in named:
            match word:
                case Conv():
                    added = shortcut if name == named[-1][0] else None
                    convolution = Convolution(**self.shared, word=word, name=name)
                    x = convolution(x, mode, product, added)
                case Linear():
                    x = Classifier(**self.shared, word=word, name=name)(x, mode)
                case words.Pool():
                    x = pool(x, word, self.architecture.unit)
                case words.Concat():
                    x = jnp.concatenate(self.apply_branches(word, x, mode), axis=-1)
                case words.Softmax():
                    x = nn.softmax(x)
                case words.Residual():
                    x = self.apply_residual(word, x, mode)
                case words.Dropout():
                    rate = self.architecture.dropout_rate if word.rate is None else word.rate
                    x = nn.Dropout(rate, deterministic=not mode.train)(x)
                case words.NormAct():
                    x = self.apply_norm(x, name, mode, word.activation)
                case words.LocalResponse():
                    x = normalise_local_response(x, word.size, word.alpha, word.beta, word.k)
                case words.Layer():
                    x = load_module(word.module)(**dict(word.fields), name=name)(
                        x, train=mode.train
                    )
                case _:
                    message = f"{name}: {word!r} is no word that a table is made of"
                    raise words.UnknownWordError(message)
            product = None
        return x

    def apply_branches(self, word: words.Concat, x: jax.Array, mode: Mode) -> list[jax.Array]:
        """Returns the output of each branch on `x`."""
        products: dict[int, KernelOutput] = {}
        if isinstance(word, SiblingConcat):
            products = self.multiply_siblings(word, x, mode)
        outputs = []
        for i, steps in enumerate(word.branches):
            branch = Block(**self.shared, steps=steps, name=f"branch_{i}")
            outputs.append(branch(x, *mode, products.get(i)))
        return outputs

    def apply_residual(self, word: words.Residual, x: jax.Array, mode: Mode) -> jax.Array:
        """Returns activation(shortcut(x) + scale * branch(x))."""
        inputs = x
        if word.preactivation:
            inputs = self.apply_norm(x, "norm", mode, None)
        if word.shortcut is not None and word.shortcut != "pad":
            x = Block(**self.shared, steps=word.shortcut, name="shortcut")(inputs, *mode)
        if self.fuses_norms(mode) and ends_in_norm(word, self.architecture.unit):
            return self.apply_words(word.branch, inputs, mode, shortcut=x)
        y = self.apply_words(word.branch, inputs, mode)
        if word.expansion_conv:
            expansion = make_expansion_conv(x.shape[-1])
            y = Convolution(**self.shared, word=expansion, name="up")(y, mode)
        if word.shortcut == "pad":
            added = (0, y.shape[-1] - x.shape[-1])
            x = jnp.pad(x[:, :: word.stride[0], :: word.stride[1]], ((0, 0), (0, 0), (0, 0), added))
        total = x + word.scale * y
        if word.norm:
            return self.apply_norm(total, "sum_norm", mode, word.activation)
        return self.apply_activation(total, word.activation)


class Network(NetworkPart):
    """A network of the family as a Flax module, with the collections `params` and `batch_stats`.

    Attributes:
      architecture: The table.
      num_classes: Number of classes; 0 for the pooled features instead of logits.
      aux: Whether training runs the auxiliary heads. Evaluation never does.
      dtype: Dtype of the activations; parameters and statistics are at least float32.
      norm: `BatchNorm` with the recipe's fields: `functools.partial(BatchNorm,
        examples_per_group=32)`.
      precision: Precision of the product that gives float32 logits; None for the platform's
        default.
      per_activation_in: End points whose norms keep statistics, gamma and beta for each position.
      recompute: Patterns of end points whose activations the backward pass computes again.
      rewrites: Rules and options of `spec.rewrite` by which the table runs; parameters keep their
        names and shapes.
      batch_sharding: The sharding of batches over several devices, over which
        `low_precision_kernel_gradients` sums in the dtype of the parameters; None for one device.
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
          train: Normalises with the batch's statistics and updates the running ones (needs
            `mutable=["batch_stats"]`), applies dropout (needs a "dropout" key if the table has
            any), and runs the auxiliary heads.
          mask: [B], true for the examples that count towards batch statistics; default: all. The
            module of a `layer` does not get it.
          end_points: Names of activations to return.
          stop: Ends at the deepest of `end_points`, also for images that are too small for the
            rest; `logits` is then None.

        Raises:
          TooSmallError: A window does not fit into the images.
          ValueError: The table has no such end point, or `train=True` and `batch_stats` is not
            mutable.
          RewriteError: The class of the norm does not allow a rewrite.
        """
        chex.assert_rank(images, 4)
        validate_norm(self.rewrites, self.norm.func, needed=self.architecture.unit.norm)
        table = self.architecture if self.num_classes else self.architecture.embedding
        if not self.aux or not (train or self.is_initializing()):
            table = replace(table, aux=())
        deepest = table.truncate(end_points)  # raises for an unknown end point
        table = deepest if stop and end_points else table
        check_image_size(table, (images.shape[1], images.shape[2]), images.shape[3])
        if not self.is_initializing():
            heads = (head.at for head in self.architecture.aux)
            table = rewrite(table, self.rewrites, (*end_points, *self.per_activation_in, *heads))

        def apply_block(name: str, steps: Steps, x: jax.Array) -> jax.Array:
            is_recomputed = any(fnmatchcase(name, pattern) for pattern in self.recompute)
            block = nn.remat(Block, static_argnums=(2,)) if is_recomputed else Block
            own = {"architecture": table, "per_activation": name in self.per_activation_in}
            return block(**{**self.shared, **own}, steps=steps, name=name)(x, train, mask)

        x = images.astype(self.dtype)
        aux: list[jax.Array] = []
        activations: dict[str, jax.Array] = {}
        for name, steps in table.layers:
            x = activations[name] = apply_block(name, steps, x)
            for head in table.aux:
                if head.at == name:
                    activations[head.name] = apply_block(head.name, head.steps, x)
                    aux.append(activations[head.name])
        logits = None if stop and end_points else activations[table.logits_row or name]
        requested = {name: activations[name] for name in end_points}
        return Outputs(logits, tuple(aux) if train else (), requested)
