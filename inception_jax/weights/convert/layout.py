"""Layouts of an array in memory, here and in another project."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ArrayLayout:
    """The conversion between the layouts of an array here and in a project.

    The array here, of shape `own`, is reshaped to `split`, transposed to `axes`, and reshaped to
    `shape`. A kernel [h, w, in, out] that PyTorch keeps as [out, in, h, w] has the axes (3, 2, 0,
    1).

    Attributes:
      own: Shape here.
      split: Shape here with axes split.
      axes: Order of the split axes in the project.
      shape: Shape in the project.
      reversed_axis: Index among the split axes of input channels that are blue, green, red in the
        project; None for none.
    """

    own: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    reversed_axis: int | None = None

    def theirs(self, ours: np.ndarray) -> np.ndarray:
        """Returns an array of this package in the project's layout."""
        parted = ours.reshape(self.split)
        if self.reversed_axis is not None:
            parted = np.flip(parted, self.reversed_axis)
        return np.ascontiguousarray(parted.transpose(self.axes).reshape(self.shape))

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        """Returns an array of the project in this package's layout."""
        order = [self.split[axis] for axis in self.axes]
        parted = theirs.reshape(order).transpose(np.argsort(self.axes))
        if self.reversed_axis is not None:
            parted = np.flip(parted, self.reversed_axis)
        return np.ascontiguousarray(parted.reshape(self.own))


def plain_layout(shape: tuple[int, ...]) -> ArrayLayout:
    """Returns the layout of an array that is the same in both."""
    return ArrayLayout(shape, shape, tuple(range(len(shape))), shape)


def kernel_layout(
    shape: tuple[int, ...], *, outputs_first: bool, blue_first: bool = False
) -> ArrayLayout:
    """Returns the layout of a kernel: [h, w, in, out] here; the same or [out, in, h, w] there."""
    axes = (3, 2, 0, 1) if outputs_first else (0, 1, 2, 3)
    return ArrayLayout(
        shape, shape, axes, tuple(shape[axis] for axis in axes), 2 if blue_first else None
    )


def depthwise_layout(shape: tuple[int, ...], inputs: int) -> ArrayLayout:
    """Returns the layout of a depthwise kernel.

    It is [h, w, 1, in * multiplier] here and [h, w, in, multiplier] in TensorFlow.
    """
    height, width, _, channels = shape
    theirs = (height, width, inputs, channels // inputs)
    return ArrayLayout(shape, theirs, (0, 1, 2, 3), theirs)


def matrix_layout(
    shape: tuple[int, ...], *, outputs_first: bool, reads: tuple[int, ...], as_kernel: bool = False
) -> ArrayLayout:
    """Returns the layout of a matrix: [in, out] here; the same, [out, in], or a 1x1 kernel there.

    Args:
      outputs_first: Whether outputs precede inputs in the project.
      reads: Shape of the flattened input, (features,) or (h, w, channels); PyTorch and Caffe
        flatten channels first.
      as_kernel: Whether the project keeps a 1x1 kernel.
    """
    inputs, outputs = shape
    if not outputs_first:
        return ArrayLayout(shape, shape, (0, 1), (1, 1, *shape) if as_kernel else shape)
    theirs = (outputs, inputs, 1, 1) if as_kernel else (outputs, inputs)
    if len(reads) == 3:
        return ArrayLayout(shape, (*reads, outputs), (3, 2, 0, 1), theirs)
    return ArrayLayout(shape, shape, (1, 0), theirs)
