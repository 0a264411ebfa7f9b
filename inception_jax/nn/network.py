"""From a table to a Flax module: the one interpreter of the vocabulary."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.nn.initializer import initializer
from inception_jax.nn.maxima import turned
from inception_jax.nn.norm import BatchNorm
from inception_jax.nn.opened import load
from inception_jax.nn.outputs import Outputs
from inception_jax.nn.pooling import local_response, pool
from inception_jax.nn.product import convolve, convolve_blocks, multiply, pointwise
from inception_jax.nn.repeated import repeated
from inception_jax.nn.siblings import Product, Share, products, split
from inception_jax.spec import vocabulary as words
from inception_jax.spec.geometry import kernel_on, windows
from inception_jax.spec.measure import check, expansion
from inception_jax.spec.rewrite import check_norm, rewrite
from inception_jax.spec.vocabulary import Architecture, Conv, Linear, Steps, named

Mask = jax.Array | None  # [B] bool: the examples that batch statistics are of; None for all of them
ACTIVATIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "linear": lambda x: x}


class Trunk(nn.Module):
    """What every part of one network shares."""

    architecture: Architecture
    num_classes: int = 1000
    dtype: Any = jnp.float32
    norm: partial[BatchNorm] = partial(BatchNorm)
    per_activation: bool = False
    precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST

    @property
    def param_dtype(self):
        return jnp.promote_types(self.dtype, jnp.float32)

    def kernel(self, shape: tuple[int, ...], init: words.Init | None, name: str = "kernel") -> jax.Array:
        return self.param(name, initializer(init or self.architecture.unit.init), shape, self.param_dtype)

    def biased(self, x: jax.Array, value: float) -> jax.Array:
        bias = self.param("bias", nn.initializers.constant(value), x.shape[-1:], self.param_dtype)
        return (x + bias).astype(x.dtype)  # added, and so learned, in the dtype of the bias

    def normalisation(self, **own: Any) -> BatchNorm:
        unit = self.architecture.unit
        release = {"epsilon": unit.norm_epsilon, "use_scale": unit.norm_scale, "running_variance": unit.running_variance}
        fields = {**release, "passes": unit.norm_passes, **self.norm.keywords, "per_activation": self.per_activation}
        return self.norm(**fields, **own)

    def normed(self, x: jax.Array, name: str, train: bool, mask: Mask, gamma: float = 1.0, **known: Any) -> jax.Array:
        known |= {} if mask is None else {"mask": mask}
        return self.normalisation(scale_init=gamma, name=name)(x, train=train, **known)

    def activated(self, x: jax.Array, activation: words.Activation | None) -> jax.Array:
        return ACTIVATIONS[activation or self.architecture.unit.activation](x)

    @property
    def shared(self) -> dict[str, Any]:
        names = ("architecture", "num_classes", "dtype", "norm", "per_activation", "precision")
        return {name: getattr(self, name) for name in names}


class Convolution(Trunk):
    """A `Conv` at work: kernel, bias, norm and activation. A 1x1 kernel keeps the shape [1, 1, in, out], whatever it is computed as."""

    word: Conv = Conv(None, (1, 1))

    @nn.compact
    def __call__(self, x: Any, train: bool, mask: Mask = None, share: bool = False) -> Any:
        if share:
            kernel = self.kernel((1, 1, x.shape[-1], self.word.filters or x.shape[-1]), self.word.init)
            return Share(kernel[0, 0], self.of_norm("batch_stats", "mean"))
        return self.finished(x if isinstance(x, Product) else Product(self.product(x)), train, mask)

    def of_norm(self, collection: str, name: str) -> jax.Array | None:
        """A variable of the norm behind, where it has it already."""
        return self.variables.get(collection, {}).get("norm", {}).get(name)

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
        if word.pool and word.pool.kind == "max":
            weights = turned(weights, self.of_norm("params", "scale"))
        if word.depth_multiplier or (kernel == word.stride == (1, 1) and padding == ((0, 0), (0, 0))):
            return pointwise(x, weights.reshape(weights.shape[2:]), unit.pointwise)
        return (convolve_blocks if word.blocks else convolve)(x, weights, word.stride, padding)

    def finished(self, product: Product, train: bool, mask: Mask) -> jax.Array:
        """What follows the product."""
        (x, moments), word, unit = product, self.word, self.architecture.unit
        norm, bias = unit.of(word)
        if word.pool:
            x, moments = self.pooled(x, word.pool, train, mask)
        if bias:
            x, moments = self.biased(x, unit.bias_init), None
        if norm:
            x = self.normed(x, "norm", train, mask, word.gamma_init, **({} if moments is None else {"moments": moments}))
        return self.activated(x, word.activation)

    def pooled(self, x: jax.Array, word: words.Pool, train: bool, mask: Mask) -> Product:
        """What a norm is given of pooled values: under a maximum, of values times gamma's sign, also the moments of all of them."""
        y, gamma, near = pool(x, word, self.architecture.unit), self.of_norm("params", "scale"), self.of_norm("batch_stats", "mean")
        if word.kind == "avg":
            return Product(y)
        norm = self.normalisation(parent=None)
        moments = norm.moments(turned(x, gamma), near, mask) if near is not None and train and not norm.frozen else None
        return Product(turned(y, gamma), moments)


class Classifier(Trunk):
    """A `Linear` at work. Logits, and what computes them, are at least float32: by default a TPU has bfloat16 there, a GPU TF32."""

    word: Linear = Linear()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: Mask = None) -> jax.Array:
        word, features = self.word, self.num_classes if self.word.features is None else self.word.features
        x = x.reshape(x.shape[0], -1).astype(self.param_dtype if word.features is None else self.dtype)
        kernel = self.kernel((x.shape[-1], features), word.init or self.architecture.unit.linear_init)
        x = multiply(x, kernel, self.precision if word.features is None else None)
        if word.bias:
            x = self.biased(x, word.bias_init)
        if word.norm:
            x = self.normed(x, "norm", train, mask)
        return self.activated(x, word.activation)


class Block(Trunk):
    """The words of one named place: an end point, a branch, a shortcut."""

    steps: Steps = ()

    @nn.compact
    def __call__(self, x: Any, train: bool, mask: Mask = None, share: bool = False) -> Any:
        """All of them, of `x`: an array, or the product that the first already has; or, to make that one, the first's share in it."""
        steps = list(named(self.steps))
        if share:
            (name, first), *_ = steps
            assert isinstance(first, Conv)
            return Convolution(**self.shared, word=first, name=name)(x, train, mask, share)
        return self.follow(steps, x, train, mask)

    def follow(self, steps: Iterable[tuple[str, words.Word]], x: jax.Array, train: bool, mask: Mask) -> jax.Array:
        for name, word in steps:
            match word:
                case Conv():
                    x = Convolution(**self.shared, word=word, name=name)(x, train, mask)
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
                case words.Norm():
                    x = self.activated(self.normed(x, name, train, mask), word.activation)
                case words.LocalResponse():
                    x = local_response(x, word.size, word.alpha, word.beta, word.k)
                case words.Layer():
                    x = load(word.module)(**dict(word.fields), name=name)(x, train=train)
                case _:
                    raise words.UnknownWordError(f"{name}: {word!r} is no word that a table is made of")
        return x

    def branches(self, word: words.Concat, x: jax.Array, train: bool, mask: Mask) -> list[jax.Array]:
        blocks = [Block(**self.shared, steps=steps, name=f"branch_{i}") for i, steps in enumerate(word.branches)]
        if word.merged:
            filters = word.filters(x.shape[-1])
            shares = split(self.kernel((1, 1, x.shape[-1], sum(filters)), None, "merged"), filters)
        else:
            shares = [blocks[i](x, train, share=True) for i in word.siblings]
        norm, how = self.normalisation(parent=None), self.architecture.unit.pointwise
        made = dict(zip(word.siblings, products(x, shares, how, norm, train, mask), strict=True)) if shares else {}
        return [block(made.get(i, x), train, mask) for i, block in enumerate(blocks)]

    def residual(self, word: words.Residual, x: jax.Array, train: bool, mask: Mask) -> jax.Array:
        inputs = self.activated(self.normed(x, "norm", train, mask), None) if word.preactivation else x
        y = self.follow(named(word.branch), inputs, train, mask)
        if word.up:
            y = Convolution(**self.shared, word=expansion(x.shape[-1]), name="up")(y, train, mask)
        if word.shortcut == "pad":
            x = x[:, :: word.stride[0], :: word.stride[1]]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
        elif word.shortcut is not None:
            x = Block(**self.shared, steps=word.shortcut, name="shortcut")(inputs, train, mask)
        total = x + word.scale * y
        return self.activated(self.normed(total, "sum_norm", train, mask) if word.norm else total, word.activation)


class Network(Trunk):
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
      rewrites: rules of `spec.rewrite` by which the table is run; parameters keep their names and shapes.
    """

    aux: bool = False
    per_activation_in: tuple[str, ...] = ()
    recompute: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()

    @property
    def repeats(self) -> tuple[tuple[str, ...], ...]:
        """Rows that are computed by a loop, and whose variables can come stacked (`nn.repeated`)."""
        return rewrite(self.architecture, self.rewrites, keep=self.per_activation_in).repeats

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, mask: Mask = None, end_points: Sequence[str] = (), stop: bool = False
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
        check_norm(self.rewrites, self.norm.func, needed=self.architecture.unit.norm)
        table = self.architecture if self.num_classes else self.architecture.embedding
        table = replace(table, aux=table.aux if self.aux and (train or self.is_initializing()) else ())
        deepest = table.up_to(end_points)
        table = deepest if stop and end_points else table
        check(table, (images.shape[1], images.shape[2]), images.shape[3])  # names the place of what cannot be
        if not self.is_initializing():
            table = rewrite(table, self.rewrites, keep=(*end_points, *self.per_activation_in, *(head.at for head in self.architecture.aux)))
        x, aux, kept, shared = images.astype(self.dtype), {}, {}, {**self.shared, "architecture": table}
        for names, steps in table.stretches:
            again = any(fnmatchcase(name, pattern) for name in names for pattern in self.recompute)
            name, own = names[-1], {**shared, "per_activation": names[-1] in self.per_activation_in}
            block = partial(nn.remat(Block, static_argnums=(2,)) if again else Block, **own, steps=steps)
            x = repeated(self, block(parent=None), names, x, train, mask, again) if names[1:] else block(name=name)(x, train, mask)
            kept[name] = x
            for head in table.aux:
                if head.at == name:
                    own = {**shared, "per_activation": head.name in self.per_activation_in}
                    aux[head.name] = kept[head.name] = Block(**own, steps=head.steps, name=head.name)(x, train, mask)
        logits = None if stop and end_points else kept[table.logits or name]
        return Outputs(logits, tuple(aux.values()) if train else (), {name: kept[name] for name in end_points})
