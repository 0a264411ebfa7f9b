"""Batches: the rows of one step that this process holds, read, decoded and stacked."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.order import Order
from inception_jax.data.source import DataError, Example, Source
from inception_jax.data.stage_timer import StageTimer
from inception_jax.errors import escape_control_characters

Rows = Any
"""A NumPy array on the host, a `jax.Array` once laid out."""

Pixels = Callable[[Example, int, np.ndarray], None]
"""Writes what the network sees of an example at a position of the stream: [H, W, 3] uint8."""

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


def allocate_batch(rows: int, image_size: int) -> Batch:
    """Room for `rows` rows: nothing is in it yet."""
    return Batch(
        np.empty((rows, image_size, image_size, 3), np.uint8),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.float32),
        np.zeros(rows, np.int64),
    )


def fill_batch(
    batch: Batch,
    step: int,
    rows: np.ndarray,
    *,
    batch_size: int,
    order: Order,
    source: Source,
    pixels: Pixels,
    skip_bad: bool = False,
    timer: StageTimer | None = None,
) -> None:
    """Writes rows `rows` of global batch `step` into `batch`; rows after the stream's end are zeros of weight 0.

    Args:
      skip_bad: an example that cannot be used is told of, and becomes zeros of weight 0, instead of an error.

    Raises:
      DataError: an example that cannot be read; the message says which.
    """
    timer = timer or StageTimer()
    batch.position[:] = step * np.int64(batch_size) + rows
    for row, index in enumerate(order(batch.position).tolist()):
        if (
            index >= 0
            and (
                label := _read(
                    batch.image[row],
                    index,
                    int(batch.position[row]),
                    source,
                    pixels,
                    skip_bad,
                    timer,
                )
            )
            is not None
        ):
            batch.label[row], batch.weight[row] = label, 1
        else:
            batch.image[row], batch.label[row], batch.weight[row] = 0, 0, 0


def _read(
    image: np.ndarray,
    index: int,
    position: int,
    source: Source,
    pixels: Pixels,
    skip_bad: bool,
    timer: StageTimer,
) -> int | None:
    """Writes one image, and returns its label; None where it is skipped."""
    example = None
    try:
        with timer("read"):
            example = source[index]
        if (
            not 0 <= example.label < max(len(source.class_names), 1)
        ):  # of images for a network without classes the label is 0
            raise DataError(
                f"label {example.label}, but there are {len(source.class_names)} classes, from 0"
            )
        pixels(example, position, image)
        return example.label
    except DataError as error:
        message = f"{example.at(index) if example else f'example {index}'}: {error}"
        if not skip_bad:
            raise DataError(message) from error
        logging.getLogger(__name__).warning("skipped %s", escape_control_characters(message))
        return None


def stream_batches(
    fill_batch: Callable[[Batch, int, np.ndarray], None],
    rows: np.ndarray,
    start: int,
    stop: int,
    *,
    image_size: int,
    threads: int,
    timer: StageTimer | None = None,
) -> Iterator[Batch]:
    """Batches `start` to `stop`, filled by `threads` threads of Grain's; one batch and a little more is read ahead.

    Threads share a batch, and each fills a few of its rows at a time, in place: joining parts would take 6 % of all the
    work. With 0 threads the caller's own fills it, without Grain.
    """
    timer = timer or StageTimer()
    if not threads:
        for step in range(start, stop):
            with timer("batch"):
                whole = allocate_batch(len(rows), image_size)
            fill_batch(whole, step, rows)
            yield whole
        return
    import grain

    pieces = [slice(first, first + PART) for first in range(0, len(rows), PART)]
    begun: dict[int, Batch] = {}
    lock = threading.Lock()

    def work(task: int) -> int:
        step, piece = divmod(task, len(pieces))
        with timer("batch"), lock:
            if step not in begun:
                begun[step] = allocate_batch(len(rows), image_size)
        fill_batch(
            Batch(*(column[pieces[piece]] for column in begun[step])), step, rows[pieces[piece]]
        )
        return task

    tasks = grain.MapDataset.range(start * len(pieces), stop * len(pieces)).map(work)
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=len(pieces) + 2 * threads
    )  # counts tasks
    finished = iter(tasks.to_iter_dataset(options))
    for step in range(start, stop):
        for _ in pieces:
            next(finished)
        yield begun.pop(step)
