"""Where a window falls: output size and padding along one axis, and what part of the image a value has seen."""

from dataclasses import dataclass

from inception_jax.spec.vocabulary import Conv, Padding, Pair, Pool, Same


@dataclass(frozen=True)
class WindowSpan:
    """A sliding window along one axis: `size` outputs, after `before` and `after` pixels of padding."""

    size: int
    before: int
    after: int


def get_kernel(word: Conv | Pool, height: int, width: int) -> Pair:
    """The kernel that `word` slides over a map of this size."""
    rows, columns = word.kernel or (height, width)
    return (min(rows, height), min(columns, width)) if word.shrink else (rows, columns)


def slide_window(length: int, kernel: int, stride: int, padding: Padding, same: Same) -> WindowSpan:
    """Slides a window of `kernel` pixels over `length` pixels.

    Raises:
      ValueError: the window does not fit once.
    """
    if padding == "same":
        padding = same
    if padding == "tensorflow":
        size = -(-length // stride)
        total = max((size - 1) * stride + kernel - length, 0)
        return WindowSpan(size, total // 2, total - total // 2)
    if padding == "ceil":
        size = -(-(length - kernel) // stride) + 1
        before, after = 0, (size - 1) * stride + kernel - length
    else:
        around = (kernel - 1) // 2
        before, after = (
            {"symmetric": (around, around), "valid": (0, 0)}[padding]
            if isinstance(padding, str)
            else padding
        )
        size = (length + before + after - kernel) // stride + 1
    if size < 1:
        raise ValueError(
            f"a window of {kernel} does not fit into {length} pixels padded by {before} and {after}"
        )
    return WindowSpan(size, before, after)


def slide_windows(
    word: Conv | Pool, shape: tuple[int, ...], same: Same
) -> tuple[WindowSpan, WindowSpan]:
    """How `word` slides over the rows and the columns of a map of shape (height, width, channels).

    Raises:
      ValueError: its window does not fit once.
    """
    kernel = get_kernel(word, *shape[:2])
    rows, columns = (
        slide_window(shape[i], kernel[i], word.stride[i], word.padding, same) for i in (0, 1)
    )
    return rows, columns


def adaptive_windows(length: int, size: int) -> list[slice]:
    """The windows of PyTorch's adaptive pooling: of 14 pixels and 4 windows [0, 4), [3, 7), [7, 11) and [10, 14)."""
    return [slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]


@dataclass(frozen=True)
class ReceptiveField:
    """What position 0 of a map has seen along one axis: input pixels `first` to `last`; the next sees `jump` further.

    Pixels below 0 are padding.
    """

    first: int = 0
    last: int = 0
    jump: int = 1

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def through(self, kernel: int, stride: int, before: int) -> "ReceptiveField":
        """The sight of what a window over this map sees."""
        first = self.first - before * self.jump
        return ReceptiveField(
            first, self.last + (kernel - 1 - before) * self.jump, self.jump * stride
        )

    def joined(self, other: "ReceptiveField") -> "ReceptiveField":
        return ReceptiveField(
            min(self.first, other.first), max(self.last, other.last), max(self.jump, other.jump)
        )
