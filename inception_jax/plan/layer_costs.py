"""Lower bounds on the operations, bytes and time of each layer."""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from inception_jax.spec.measure import Measurement


class DeviceRates(NamedTuple):
    """The peak rates of a device.

    Attributes:
      flops: Operations per second of matrix products in the dtype of the activations; a
        multiply-add counts as two.
      bandwidth: Bytes per second between memory and processor.
      source: The source of these numbers: `published` or `measured here`.
    """

    flops: float
    bandwidth: float
    source: str


class LayerCost(NamedTuple):
    """The lower bounds of one layer for a number of images.

    Attributes:
      path: The path of the layer.
      flops: Operations.
      bytes: Bytes read and written.
      seconds: The time at peak rates: of computing or of moving, whichever is longer.
      bound: Which of the two is longer: `compute` or `memory`.
    """

    path: str
    flops: int
    bytes: int
    seconds: float
    bound: str


def compute_layer_costs(
    measured: Measurement, *, images: int, itemsize: int, train: bool, rates: DeviceRates
) -> Iterator[LayerCost]:
    """Yields the cost of each layer of a network.

    Each layer reads its input and its parameters once, and writes its output once, with everything
    elementwise after the product fused into it. Training costs three times as much: forward, and
    backward for the input and for the kernel. Real programs move more: norms read their input
    twice.

    Args:
      measured: The measured network.
      images: The number of images.
      itemsize: Bytes of an activation.
      train: Whether to include the backward pass.
      rates: The peak rates of the device.
    """
    passes = 3 if train else 1
    for row in measured.rows:
        flops = passes * images * 2 * (row.multiply_adds or 0)
        activations = images * (prod(row.input) + row.output.activations)
        moved = passes * itemsize * (activations + (row.parameters or 0))
        seconds = {"compute": flops / rates.flops, "memory": moved / rates.bandwidth}
        bound = max(seconds, key=lambda name: seconds[name])
        yield LayerCost(row.path, flops, moved, seconds[bound], bound)
