"""Where a window falls: output size and padding along one axis, and what part of the image a value has seen."""

from dataclasses import dataclass
from typing import Literal

from inception_jax.spec.vocabulary import Padding


@dataclass(frozen=True)
class Span:
    """A sliding window along one axis: `size` outputs, after `before` and `after` pixels of padding."""

    size: int
    before: int
    after: int


def slide(length: int, kernel: int, stride: int, padding: Padding, same: Literal["tensorflow", "symmetric"]) -> Span:
    """Slides a window of `kernel` pixels over `length` pixels.

    Raises:
      ValueError: the window does not fit once.
    """
    if padding == "same" and same == "tensorflow":
        size = -(-length // stride)
        total = max((size - 1) * stride + kernel - length, 0)
        return Span(size, total // 2, total - total // 2)
    if padding == "ceil":
        size = -(-(length - kernel) // stride) + 1
        before, after = 0, (size - 1) * stride + kernel - length
    else:
        around = (kernel - 1) // 2
        before, after = {"same": (around, around), "valid": (0, 0)}[padding] if isinstance(padding, str) else padding
        size = (length + before + after - kernel) // stride + 1
    if size < 1:
        raise ValueError(f"a window of {kernel} does not fit into {length} pixels padded by {before} and {after}")
    return Span(size, before, after)


@dataclass(frozen=True)
class Sight:
    """What position 0 of a map has seen along one axis: input pixels `first` to `last`; the next sees `jump` further.

    Pixels below 0 are padding.
    """

    first: int = 0
    last: int = 0
    jump: int = 1

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def through(self, kernel: int, stride: int, before: int) -> "Sight":
        """The sight of what a window over this map sees."""
        first = self.first - before * self.jump
        return Sight(first, self.last + (kernel - 1 - before) * self.jump, self.jump * stride)

    def joined(self, other: "Sight") -> "Sight":
        return Sight(min(self.first, other.first), max(self.last, other.last), max(self.jump, other.jump))
