"""The geometry of sliding windows: output sizes, padding and receptive fields along one axis."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from inception_jax.spec.vocabulary import Conv, Padding, Pair, Pool, Same


@dataclass(frozen=True)
class WindowSpan:
    """A sliding window along one axis: its outputs and the pixels of padding on both sides.

    Attributes:
      size: Number of outputs.
      before: Pixels of padding before the first pixel.
      after: Pixels of padding after the last pixel. A negative number drops pixels.
    """

    size: int
    before: int
    after: int


def get_kernel(word: Conv | Pool, height: int, width: int) -> Pair:
    """Returns the kernel that `word` slides over a map of `height` x `width` pixels."""
    rows, columns = word.kernel or (height, width)
    return (min(rows, height), min(columns, width)) if word.shrink else (rows, columns)


def slide_window(length: int, kernel: int, stride: int, padding: Padding, same: Same) -> WindowSpan:
    """Slides a window of `kernel` pixels over `length` pixels.

    Args:
      length: Pixels along the axis.
      kernel: Pixels of the window.
      stride: Pixels between two windows.
      padding: The padding of the word.
      same: The meaning of "same" padding, from the architecture's unit.

    Raises:
      ValueError: The window does not fit once.
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
        if padding == "symmetric":
            before = after = (kernel - 1) // 2
        elif padding == "valid":
            before = after = 0
        else:
            before, after = padding
        size = (length + before + after - kernel) // stride + 1
    if size < 1:
        raise ValueError(
            f"a window of {kernel} does not fit into {length} pixels padded by {before} and {after}"
        )
    return WindowSpan(size, before, after)


def slide_windows(
    word: Conv | Pool, shape: tuple[int, ...], same: Same
) -> tuple[WindowSpan, WindowSpan]:
    """Slides the window of `word` over the rows and the columns of a map.

    Args:
      word: A convolution or a pool over windows.
      shape: The shape of the map, (height, width, channels).
      same: The meaning of "same" padding, from the architecture's unit.

    Raises:
      ValueError: The window does not fit once.
    """
    kernel = get_kernel(word, *shape[:2])
    rows, columns = (
        slide_window(shape[i], kernel[i], word.stride[i], word.padding, same) for i in (0, 1)
    )
    return rows, columns


class Window(NamedTuple):
    """A window that slides over the rows and columns of a map.

    Attributes:
      window_shape: Pixels of the window.
      strides: Pixels between two windows.
      padding: (before, after) in pixels, for rows and columns; a negative number drops pixels that
        no window reaches.
    """

    window_shape: Pair
    strides: Pair
    padding: tuple[Pair, ...]

    @property
    def offsets(self) -> list[Pair]:
        """Returns (row, column) of each value of the window, by rows."""
        return list(product(range(self.window_shape[0]), range(self.window_shape[1])))

    def get_spans(self, size: tuple[int, ...]) -> list[int]:
        """Returns the pixels from the first to the last window over a map of `size` (H, W)."""
        padded = [size[i] + sum(self.padding[i]) - self.window_shape[i] for i in (0, 1)]
        return [padded[i] // self.strides[i] * self.strides[i] + 1 for i in (0, 1)]


def make_window(word: Conv | Pool, shape: tuple[int, ...], same: Same) -> Window:
    """Returns the window that `word` slides over a map; the arguments of `slide_windows`."""
    padding = tuple((span.before, span.after) for span in slide_windows(word, shape, same))
    return Window(get_kernel(word, *shape[:2]), word.stride, padding)


def list_adaptive_windows(length: int, size: int) -> list[slice]:
    """Returns the `size` windows of PyTorch's adaptive pooling over `length` pixels.

    For 14 pixels and 4 windows they are [0, 4), [3, 7), [7, 11) and [10, 14).
    """
    return [slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of position 0 of a map along one axis, in pixels of the image.

    Attributes:
      first: First pixel of the field. Pixels below 0 are padding.
      last: Last pixel of the field.
      jump: Pixels between the fields of two neighbouring positions.
    """

    first: int = 0
    last: int = 0
    jump: int = 1

    @property
    def size(self) -> int:
        """Returns the number of pixels in the field."""
        return self.last - self.first + 1

    def apply_window(self, kernel: int, stride: int, before: int) -> "ReceptiveField":
        """Returns the field of position 0 after a window over this map with padding `before`."""
        first = self.first - before * self.jump
        last = self.last + (kernel - 1 - before) * self.jump
        return ReceptiveField(first, last, self.jump * stride)

    def merge(self, other: "ReceptiveField") -> "ReceptiveField":
        """Returns the smallest field that covers both fields."""
        return ReceptiveField(
            min(self.first, other.first), max(self.last, other.last), max(self.jump, other.jump)
        )
