"""Batches: the rows of one step that this process holds, read, decoded and stacked."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import numpy as np

from inception_jax.data.order import Order
from inception_jax.data.sources import DataError, Example, Source

Rows = Any
"""A NumPy array on the host, a `jax.Array` once laid out."""

Pixels = Callable[[Example, int], np.ndarray]
"""What the network sees of an example at a position of the stream: [H, W, 3] uint8."""


class Batch(NamedTuple):
    """Some rows of one global batch.

    Attributes:
      image: [b, H, W, 3] uint8.
      label: [b] int32.
      weight: [b] float32, 1 for an example and 0 for padding.
      position: [b] int64 on the host (uint32 on the accelerator), the rows' positions in the stream.
    """

    image: Rows
    label: Rows
    weight: Rows
    position: Rows


def batch(step: int, *, rows: np.ndarray, batch_size: int, order: Order, source: Source, pixels: Pixels) -> Batch:
    """Rows `rows` of global batch `step`; rows after the stream's end are zeros of weight 0.

    Raises:
      DataError: an example that cannot be read; the message says which.
    """
    positions = step * np.int64(batch_size) + rows
    images, labels, weights = [], [], []
    for index, position in zip(order(positions).tolist(), positions.tolist(), strict=True):
        example = source[max(index, 0)]
        try:
            images.append(pixels(example, position))
        except DataError as error:
            raise DataError(f"{example.at(index)}: {error}") from error
        if not 0 <= example.label < len(source.class_names):
            raise DataError(f"example {index}: label {example.label}, but there are {len(source.class_names)} classes, from 0")
        labels.append(example.label)
        weights.append(index >= 0)
    weight = np.array(weights, np.float32)
    image = np.stack(images)
    chex.assert_type(image, np.uint8)
    if not weight.all():
        image = image * weight.astype(np.uint8)[:, None, None, None]
    return Batch(image, np.array(labels, np.int32), weight, positions)


def stream(one: Callable[[int], Batch], start: int, stop: int, threads: int) -> Iterator[Batch]:
    """Batches `start` to `stop`, read ahead by `threads` threads of Grain's; with 0 by the caller's own, without Grain."""
    if not threads:
        return map(one, range(start, stop))
    import grain

    steps = grain.MapDataset.range(start, stop).map(one)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)  # counts batches
    return iter(steps.to_iter_dataset(options))
