"""The words of a rewritten table, which `spec.rewrite` and `weights.folding` make out of the vocabulary's. No table is written in them."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from inception_jax.spec.vocabulary import Concat, Conv, Pool, flatten

Kind = TypeVar("Kind", "PooledConv", "SiblingConcat", "ComparedPool")


@dataclass(frozen=True)
class PooledConv(Conv):
    """A convolution with a pool over windows between its kernel and what follows. Under a maximum a norm's moments are those before it."""

    pool: Pool = field(kw_only=True)


@dataclass(frozen=True)
class ComparedPool(Pool):
    """A max pool whose gradient is made of comparisons of each window's values with its maximum."""


@dataclass(frozen=True)
class SiblingConcat(Concat):
    """Branches of which those in `siblings` begin with 1x1 convolutions that are computed as one.

    Attributes:
      merged: whether their kernels are one array, of that name.
    """

    siblings: tuple[int, ...] = ()
    merged: bool = False

    def filters(self, channels: int) -> tuple[int, ...]:
        """Returns the output channels of the siblings, on an input of so many channels."""
        firsts = [next(flatten(self.branches[i])) for i in self.siblings]
        return tuple(first.filters or channels for first in firsts if isinstance(first, Conv))


def extend(kind: type[Kind], word: Conv | Pool | Concat, **more: Any) -> Kind:
    """Returns `word` as the `kind` that extends it, with that kind's own fields."""
    return kind(**{item.name: getattr(word, item.name) for item in fields(word)} | more)
