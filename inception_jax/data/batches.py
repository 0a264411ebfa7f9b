"""Batches: the rows of one step that this process holds, read, decoded and stacked."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.order import Order
from inception_jax.data.source import DataError, Example, Source
from inception_jax.data.stopwatch import Stopwatch

Rows = Any
"""A NumPy array on the host, a `jax.Array` once laid out."""

Pixels = Callable[[Example, int], np.ndarray]
"""What the network sees of an example at a position of the stream: [H, W, 3] uint8."""

PART = 8
"""Examples that a thread reads at a time: few, so that what is read ahead stays small, and many enough to hide its cost."""


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


def batch(
    step: int,
    rows: np.ndarray,
    *,
    batch_size: int,
    order: Order,
    source: Source,
    pixels: Pixels,
    image_size: int,
    skip_bad: bool = False,
    watch: Stopwatch | None = None,
) -> Batch:
    """Rows `rows` of global batch `step`; rows after the stream's end are zeros of weight 0.

    Args:
      skip_bad: an example that cannot be used is told of, and becomes zeros of weight 0, instead of an error.

    Raises:
      DataError: an example that cannot be read; the message says which.
    """
    watch = watch or Stopwatch()
    positions = step * np.int64(batch_size) + rows
    image = np.zeros((len(rows), image_size, image_size, 3), np.uint8)
    label, weight = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.float32)
    for row, (index, position) in enumerate(zip(order(positions).tolist(), positions.tolist(), strict=True)):
        if index < 0:
            continue
        example = None
        try:
            with watch("read"):
                example = source[index]
            if not 0 <= example.label < len(source.class_names):
                raise DataError(f"label {example.label}, but there are {len(source.class_names)} classes, from 0")
            image[row] = pixels(example, position)
            label[row], weight[row] = example.label, 1
        except DataError as error:
            told = f"{example.at(index) if example else f'example {index}'}: {error}"
            if not skip_bad:
                raise DataError(told) from error
            logging.getLogger(__name__).warning("skipped %s", told)
    return Batch(image, label, weight, positions)


def stream(
    part: Callable[[int, np.ndarray], Batch], rows: np.ndarray, start: int, stop: int, threads: int, watch: Stopwatch | None = None
) -> Iterator[Batch]:
    """Batches `start` to `stop`, one batch and a little more read ahead by `threads` threads of Grain's.

    Threads share a batch: each makes a few of its rows at a time. With 0 threads the caller's own makes it, without Grain.
    """
    if not threads:
        yield from (part(step, rows) for step in range(start, stop))
        return
    import grain

    watch = watch or Stopwatch()
    pieces = np.array_split(rows, -(-len(rows) // PART))
    tasks = grain.MapDataset.range(start * len(pieces), stop * len(pieces))
    tasks = tasks.map(lambda task: part(task // len(pieces), pieces[task % len(pieces)]))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=len(pieces) + 2 * threads)  # counts tasks
    parts = iter(tasks.to_iter_dataset(options))
    for _ in range(start, stop):
        ready = list(islice(parts, len(pieces)))
        with watch("batch"):
            joined = Batch(*map(np.concatenate, zip(*ready, strict=True)))
        yield joined
