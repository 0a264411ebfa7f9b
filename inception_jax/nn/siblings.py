"""The 1x1 convolutions of one input as one: their product, and the moments of what it gives."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn.moments import Moments
from inception_jax.nn.norm import BatchNorm
from inception_jax.nn.product import pointwise
from inception_jax.spec.vocabulary import Pointwise


class Product(NamedTuple):
    """What a kernel gives, [B, H, W, C], and the moments of it where they are known."""

    values: jax.Array
    moments: Moments | None = None


class Share(NamedTuple):
    """A convolution's part in the product with its siblings: its kernel [C, F], and the running mean [F] of its norm where it has one."""

    kernel: jax.Array
    near: jax.Array | None


def split(kernel: jax.Array, filters: Sequence[int]) -> list[Share]:
    """The shares in a kernel [1, 1, C, F] that is all of theirs already."""
    return [Share(piece, None) for piece in jnp.split(kernel[0, 0], np.cumsum(filters)[:-1], axis=-1)]


def products(
    x: jax.Array, shares: Sequence[Share], how: Pointwise, norm: BatchNorm, train: bool, mask: jax.Array | None = None
) -> list[Product]:
    """`x` [B, H, W, C] with each kernel, as one.

    While training, their moments are taken of all at once, where they are made. The norms themselves are not joined: each would read a
    piece of what they share, which has then to be copied.
    """
    ends = np.cumsum([share.kernel.shape[-1] for share in shares])[:-1]
    whole = pointwise(x, jnp.concatenate([share.kernel for share in shares], axis=-1), how)
    pieces = jnp.split(whole, ends, axis=-1)
    means = [share.near for share in shares if share.near is not None]
    if not train or not vars(type(norm)).get("is_batch_norm") or norm.frozen or len(means) < len(shares):
        return [Product(piece) for piece in pieces]
    mean, variance, count = norm.moments(whole, jnp.concatenate(means, axis=-1), mask)
    moments = zip(jnp.split(mean, ends, axis=-1), jnp.split(variance, ends, axis=-1), strict=True)
    return [Product(piece, Moments(*pair, count)) for piece, pair in zip(pieces, moments, strict=True)]
