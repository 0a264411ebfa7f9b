"""What each layer must compute and move at least, and so where the time of a step would go on a device that never waits."""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from inception_jax.spec.measure import Measurement


class DeviceRates(NamedTuple):
    """What a device does in a second.

    Attributes:
      flops: operations of matrix products in the dtype of the activations; a multiplication and an addition are two.
      bandwidth: bytes between memory and processor.
      source: where the figures are from.
    """

    flops: float
    bandwidth: float
    source: str


class LayerCost(NamedTuple):
    """One row of a table, for so many images.

    Attributes:
      seconds: that it takes at least: computing or moving, whichever is longer.
      bound: which of the two: compute or memory.
    """

    path: str
    flops: int
    bytes: int
    seconds: float
    bound: str


def compute_layer_costs(
    measured: Measurement, *, images: int, itemsize: int, train: bool, rates: DeviceRates
) -> Iterator[LayerCost]:
    """The rows of a measured table.

    Each reads its input and its parameters once and writes its output once, with whatever follows the product done on the way; training
    does as much three times: forward, and backward for the input and for the kernel. A program moves more: norms read what they normalise
    again.
    """
    times = 3 if train else 1
    for row in measured.rows:
        flops = times * images * 2 * (row.multiply_adds or 0)
        moved = (
            times
            * itemsize
            * (images * (prod(row.input) + row.output.activations) + (row.parameters or 0))
        )
        least = {"compute": flops / rates.flops, "memory": moved / rates.bandwidth}
        bound = max(least, key=lambda name: least[name])
        yield LayerCost(row.path, flops, moved, least[bound], bound)
