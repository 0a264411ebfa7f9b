"""The words of a rewritten table, which only `spec.rewrite` and `weights.export.folding` make."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from inception_jax.spec.vocabulary import Concat, Conv, Pool, flatten

Kind = TypeVar("Kind", "PooledConv", "SiblingConcat", "ShiftedPool")


@dataclass(frozen=True)
class PooledConv(Conv):
    """A convolution with a pool over windows between its kernel and what follows.

    With a max pool the moments of the norm are those of the values before the pool.
    """

    pool: Pool = field(kw_only=True)


@dataclass(frozen=True)
class ShiftedPool(Pool):
    """A pool over windows that compares or adds shifted maps.

    A max pool keeps the index of each maximum for its gradient.
    """


@dataclass(frozen=True)
class SiblingConcat(Concat):
    """Branches some of which begin with 1x1 convolutions that are computed as one.

    Attributes:
      siblings: Indices of the branches that begin with these convolutions.
      merged: Whether their kernels are one array of this name.
    """

    siblings: tuple[int, ...] = ()
    merged: bool = False

    def filters(self, channels: int) -> tuple[int, ...]:
        """Returns the output channels of the siblings for an input of `channels` channels."""
        firsts = [next(flatten(self.branches[i])) for i in self.siblings]
        return tuple(first.filters or channels for first in firsts if isinstance(first, Conv))


def extend(kind: type[Kind], word: Conv | Pool | Concat, **more: Any) -> Kind:
    """Returns `word` as the `kind` that extends it, with that kind's own fields in `more`."""
    return kind(**{item.name: getattr(word, item.name) for item in fields(word)} | more)
