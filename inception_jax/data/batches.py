"""Batches: the rows of a step on this process, read, decoded and stacked."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.order import Order
from inception_jax.data.source import DataError, Example, Source, StoredArrays
from inception_jax.data.stage_timer import StageTimer
from inception_jax.errors import escape_control_characters

Rows = Any
"""A NumPy array on the host, a `jax.Array` on the devices."""

Pixels = Callable[[Example, int, np.ndarray], None]
"""(example, position in the stream, out [H, W, 3] uint8): writes the pixels for the network."""

TASK_EXAMPLES = 8
"""Examples of a thread's task: few, so that little is read ahead, but enough to hide its cost."""


class Batch(NamedTuple):
    """Rows of a global batch.

    Attributes:
      image: [b, H, W, 3] uint8.
      label: [b] int32.
      weight: [b] float32, 1 for an example and 0 for padding.
      position: [b] positions in the stream, int64 on the host and uint32 on the accelerator.
    """

    image: Rows
    label: Rows
    weight: Rows
    position: Rows


def allocate_batch(rows: int, image_size: int) -> Batch:
    """Returns a batch of `rows` rows whose images are uninitialised."""
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
    stored: StoredArrays | None = None,
    skip_bad: bool = False,
    timer: StageTimer | None = None,
) -> None:
    """Writes rows of the global batch of `step` into `batch`.

    Rows after the end of the stream are zeros of weight 0.

    Args:
      rows: Indices of the rows in the global batch.
      stored: The arrays of `source`, whose images are then copied as they are, without `pixels`.
      skip_bad: Whether an example that cannot be read gets a warning and becomes zeros of weight 0.

    Raises:
      DataError: An example cannot be read. The message names it.
    """
    timer = timer or StageTimer()
    batch.position[:] = step * np.int64(batch_size) + rows
    indices = order(batch.position)
    if stored is not None and _copy_rows(batch, indices, stored, len(source.class_names), timer):
        return
    for row, index in enumerate(indices.tolist()):
        label, out = None, batch.image[row]
        if index >= 0:
            position = int(batch.position[row])
            label = _read(out, index, position, source, pixels, skip_bad, timer)
        if label is None:
            out[:] = 0
        batch.label[row], batch.weight[row] = label or 0, label is not None


def _copy_rows(
    batch: Batch, indices: np.ndarray, stored: StoredArrays, classes: int, timer: StageTimer
) -> bool:
    """Writes all rows at once; returns False, without a change, if a label is out of range."""
    with timer("read"):
        is_there = indices >= 0
        labels = np.where(is_there, stored.labels[indices], 0)
        if labels.min() < 0 or labels.max() >= max(classes, 1):
            return False
        images = stored.images[indices]
        batch.image[:] = images if images.ndim == 4 else images[..., None]
        batch.image[~is_there] = 0
        batch.label[:], batch.weight[:] = labels, is_there
    return True


def _read(
    out: np.ndarray,
    index: int,
    position: int,
    source: Source,
    pixels: Pixels,
    skip_bad: bool,
    timer: StageTimer,
) -> int | None:
    """Writes one image and returns its label; None for a skipped one."""
    example = None
    try:
        with timer("read"):
            example = source[index]
        # Without classes, as for unlabelled images, the label is 0.
        classes = len(source.class_names)
        if not 0 <= example.label < max(classes, 1):
            raise DataError(f"label {example.label}, but there are {classes} classes, from 0")
        pixels(example, position, out)
        return example.label
    except DataError as error:
        message = f"{example.format_location(index) if example else f'example {index}'}: {error}"
        if not skip_bad:
            raise DataError(message) from error
        logging.getLogger(__name__).warning("skipped %s", escape_control_characters(message))
        return None


def stream_batches(
    fill: Callable[[Batch, int, np.ndarray], None],
    rows: np.ndarray,
    start: int,
    stop: int,
    *,
    image_size: int,
    threads: int,
    timer: StageTimer | None = None,
) -> Iterator[Batch]:
    """Yields the batches of steps `start` to `stop`, filled by Grain's threads.

    A little more than one batch is read ahead. Threads fill rows of the same batch in place;
    concatenating parts would take 6 % of the work.

    Args:
      fill: (batch, step, rows): `fill_batch` with its options.
      rows: Indices of this process's rows in the global batch.
      threads: Number of threads; 0 fills batches in the caller's thread, without Grain.
    """
    timer = timer or StageTimer()
    if not threads:
        for step in range(start, stop):
            with timer("batch"):
                batch = allocate_batch(len(rows), image_size)
            fill(batch, step, rows)
            yield batch
        return
    import grain

    pieces = [slice(first, first + TASK_EXAMPLES) for first in range(0, len(rows), TASK_EXAMPLES)]
    started: dict[int, Batch] = {}
    lock = threading.Lock()

    def work(task: int) -> int:
        step, piece = divmod(task, len(pieces))
        with timer("batch"), lock:
            if step not in started:
                started[step] = allocate_batch(len(rows), image_size)
        part = pieces[piece]
        fill(Batch(*(column[part] for column in started[step])), step, rows[part])
        return task

    tasks = grain.MapDataset.range(start * len(pieces), stop * len(pieces)).map(work)
    num_tasks = len(pieces) + 2 * threads
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=num_tasks)
    finished = iter(tasks.to_iter_dataset(options))
    for step in range(start, stop):
        for _ in pieces:
            next(finished)
        yield started.pop(step)
