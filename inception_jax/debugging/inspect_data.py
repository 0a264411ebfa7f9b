"""What the data of a run look like before anything is trained: counted, decoded, timed, and seen as the network sees them."""

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from inception_jax.data.decode import has_exif_rotation
from inception_jax.data.source import DataError, Source
from inception_jax.data.stage_timer import count_cores
from inception_jax.data.tfds import read_wordnet_ids
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.monitoring.progress import show_progress
from inception_jax.training.steps import make_example_keys

SAMPLE_SIZE = 4096
"""Examples of a split that are decoded, at equal distances: four of each of ImageNet's 1,024 shards."""


def check_data(run: Run) -> Iterator[str]:
    """Counts the examples of both splits per class and decodes a sample of them; yields a line for each split.

    Raises:
      DataError: what is wrong, all of it, and what to do.
    """
    faults = list(_order_of_classes(run.class_names))
    for split, source in (
        (run.config.data.train_split, run.train_source),
        (run.config.data.test_split, run.test_source),
    ):
        counts: Counter[int] = Counter()
        turned = 0
        stride = max(1, len(source) // SAMPLE_SIZE)
        for index in show_progress(range(len(source)), f"checking {split}"):
            example = None
            try:
                example = source[index]
                counts[example.label] += 1
                turned += has_exif_rotation(example.image)
                if index % stride == 0:
                    run.pixels(example)
            except DataError as error:
                faults.append(
                    f"{split}, {example.at(index) if example else f'example {index}'}: {error}"
                )
        yield _described(split, source, counts) + _turned(turned, run.config.data.orientation)
        faults += _counted(split, source, counts)
    if faults:
        more = f"\nand {len(faults) - 10} more" if len(faults) > 10 else ""
        raise DataError(f"{len(faults)} fault(s):\n" + "\n".join(faults[:10]) + more)


def _described(split: str, source: Source, counts: Counter[int]) -> str:
    per_class = [counts[label] for label in range(len(source.class_names))]
    return f"{split}: {len(source):,} examples of {len(source.class_names):,} classes, {min(per_class):,} to {max(per_class):,} of each"


def _turned(number: int, orientation: str) -> str:
    """Returns how many images have an EXIF orientation, and what is done about it; nothing where none has."""
    done = (
        "they are turned upright"
        if orientation == "apply"
        else "they are taken as they lie (data.orientation ignore)"
    )
    return f"; {number:,} with an EXIF orientation: {done}" if number else ""


def _counted(split: str, source: Source, counts: Counter[int]) -> Iterator[str]:
    classes = len(source.class_names)
    if odd := sorted(label for label in counts if not 0 <= label < classes):
        yield f"{split}: labels {odd[:5]}, but there are {classes} classes, from 0"
    if empty := [name for label, name in enumerate(source.class_names) if not counts[label]]:
        yield f"{split}: no example of {', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''} ({len(empty)} classes)"


def _order_of_classes(names: tuple[str, ...]) -> Iterator[str]:
    """ImageNet's labels are its WordNet ids in order; a part of them keeps that order."""
    if not names or not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return
    right = sorted(names)
    if list(names) != right:
        first = next(i for i, name in enumerate(names) if name != right[i])
        yield (
            f"class {first} is {names[first]} where ImageNet has {right[first]}: weights from elsewhere will not fit these labels; "
            "name the folders by WordNet ids, or prepare the records again"
        )
    imagenet = read_wordnet_ids()
    if strangers := sorted(set(names) - set(imagenet)):
        yield f"{', '.join(strangers[:5])}: {len(strangers)} of these WordNet ids are none of ImageNet's 1,000; remove those classes"
    elif 950 < len(names) < len(imagenet):
        lost = sorted(set(imagenet) - set(names))
        yield f"{len(names)} of ImageNet's 1,000 classes; missing are {', '.join(lost[:5])}: extract their archives"


class PreparedSample(NamedTuple):
    """Training examples in the order of the run: as they leave the host, and as they enter the network; uint8 [N, S, S, 3]."""

    before: np.ndarray
    after: np.ndarray
    names: list[str]


def sample_prepared(run: Run, count: int) -> PreparedSample:
    """The first `count` training examples of the run, before and after what is done to them on the accelerator."""
    before, after, names = [], [], []
    for batch in map(run.placement.gather, run.train_batches(0)):
        prepared, _ = run.prepare_training(
            batch, make_example_keys(run.config.seed, batch.position)
        )
        before.append(np.asarray(batch.image))
        after.append(np.asarray(run.unscale_images(prepared)))
        names += [run.class_names[label] for label in jax.device_get(batch.label)]
        if len(names) >= count:
            break
    return PreparedSample(
        np.concatenate(before)[:count], np.concatenate(after)[:count], names[:count]
    )


MEASURED_SECONDS = 5.0


def benchmark_pipeline(run: Run) -> Iterator[str]:
    """Times the input pipeline, by stage on one thread and whole on `data.threads`; yields a table and a verdict."""
    alone, threads = _timed(run, 0), run.config.data.threads
    yield f"{'stage of one thread':24}{'images/s':>10}{'share':>8}"
    for stage, seconds in alone.stages.items():
        yield f"{stage:24}{alone.images / seconds:10,.0f}{seconds / alone.seconds:8.0%}"
    yield f"{'all':24}{alone.rate:10,.0f}"
    rate = alone.rate
    if threads:
        together = _timed(run, threads)
        rate = together.rate
        yield f"{f'{threads} threads, {count_cores()} cores':24}{rate:10,.0f}   {rate / alone.rate:.2f} times one thread"
    per_core = rate / min(max(threads, 1), count_cores())
    yield f"a core feeds {per_core:,.0f} images/s: an accelerator that trains 1,000 images/s needs {1000 / per_core:.1f} cores"
    yield from _verdict(run, rate, per_core)


class _Timing(NamedTuple):
    images: int
    seconds: float
    stages: dict[str, float]

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def _timed(run: Run, threads: int) -> _Timing:
    config = dataclasses.replace(
        run.config, data=dataclasses.replace(run.config.data, threads=threads), steps=2**31
    )
    timed = Run(config, run.placement)
    batches, images = timed.train_batches(0), 0
    next(batches)  # what is done once, and what is read ahead
    before, began = timed.stage_timer.read(), time.perf_counter()
    while time.perf_counter() - began < MEASURED_SECONDS:
        batch = next(batches)
        with timed.stage_timer("transfer"):
            jax.block_until_ready(batch)
        images += config.batch_size
    seconds = time.perf_counter() - began
    return _Timing(
        images,
        seconds,
        {stage: spent - before.get(stage, 0) for stage, spent in timed.stage_timer.read().items()},
    )


def _verdict(run: Run, rate: float, per_core: float) -> Iterator[str]:
    """What this means for the accelerators of this run, where it has been trained already."""
    try:
        rows = [row for row in read_metrics(run.config.workdir) if "perf/images_per_second" in row]
    except FileNotFoundError:
        rows = []
    if not rows:
        yield f"(train {run.config.workdir} for some steps, and this says how many cores its accelerators need)"
        return
    wanted = max(
        row["perf/images_per_second"] / (1 - row["perf/data_wait_fraction"]) for row in rows
    )
    needed = wanted / per_core
    verdict = (
        "the host keeps up"
        if rate >= wanted
        else f"input-bound: wanted is {wanted / rate:.1f} times as much"
    )
    yield f"{run.placement.devices} device(s) of {run.config.workdir} train {wanted:,.0f} images/s and need {needed:.1f} cores: {verdict}"
