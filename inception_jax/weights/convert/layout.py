"""How an array lies in memory here and elsewhere: the same numbers in another order."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ArrayLayout:
    """Ours, split into `split` axes, those then put in the order `axes`, is theirs of `shape`.

    Attributes:
      reversed_axis: of ours, counted from the split ones: the input channels of a first kernel that read blue, green, red there.
    """

    own: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    reversed_axis: int | None = None

    def theirs(self, ours: np.ndarray) -> np.ndarray:
        parted = ours.reshape(self.split)
        if self.reversed_axis is not None:
            parted = np.flip(parted, self.reversed_axis)
        return np.ascontiguousarray(parted.transpose(self.axes).reshape(self.shape))

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        order = [self.split[axis] for axis in self.axes]
        parted = theirs.reshape(order).transpose(np.argsort(self.axes))
        if self.reversed_axis is not None:
            parted = np.flip(parted, self.reversed_axis)
        return np.ascontiguousarray(parted.reshape(self.own))


def plain_layout(shape: tuple[int, ...]) -> ArrayLayout:
    """The same here and there."""
    return ArrayLayout(shape, shape, tuple(range(len(shape))), shape)


def kernel_layout(
    shape: tuple[int, ...], *, outputs_first: bool, blue_first: bool = False
) -> ArrayLayout:
    """[h, w, in, out] here; there the same, or [out, in, h, w]."""
    axes = (3, 2, 0, 1) if outputs_first else (0, 1, 2, 3)
    return ArrayLayout(
        shape, shape, axes, tuple(shape[axis] for axis in axes), 2 if blue_first else None
    )


def depthwise_layout(shape: tuple[int, ...], inputs: int) -> ArrayLayout:
    """[h, w, 1, in * multiplier] here, [h, w, in, multiplier] in TensorFlow."""
    height, width, _, channels = shape
    theirs = (height, width, inputs, channels // inputs)
    return ArrayLayout(shape, theirs, (0, 1, 2, 3), theirs)


def matrix_layout(
    shape: tuple[int, ...], *, outputs_first: bool, reads: tuple[int, ...], as_kernel: bool = False
) -> ArrayLayout:
    """[in, out] here; there the same or [out, in], or a 1x1 convolution of either order.

    Args:
      reads: the shape of one example that is flattened, (features,) or (h, w, channels); PyTorch and Caffe flatten channels first.
    """
    inputs, outputs = shape
    if not outputs_first:
        return ArrayLayout(shape, shape, (0, 1), (1, 1, *shape) if as_kernel else shape)
    theirs = (outputs, inputs, 1, 1) if as_kernel else (outputs, inputs)
    if len(reads) == 3:
        return ArrayLayout(shape, (*reads, outputs), (3, 2, 0, 1), theirs)
    return ArrayLayout(shape, shape, (1, 0), theirs)
