"""Checks of the data of a run before training: counts, decoding, speed, and prepared examples."""

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
"""The number of evenly spaced examples of a split that are decoded: four of each of ImageNet's
1,024 shards."""
BENCHMARK_SECONDS = 5.0
MAX_FAULTS = 10
MAX_NAMES = 5


def check_data(run: Run) -> Iterator[str]:
    """Counts the examples of both splits per class, and decodes a sample; yields a line for each.

    Raises:
      DataError: There are faults; the message lists the first ten, with a remedy.
    """
    faults = list(_find_class_faults(run.class_names))
    splits = (
        (run.config.data.train_split, run.train_source),
        (run.config.data.test_split, run.test_source),
    )
    for split, source in splits:
        counts: Counter[int] = Counter()
        num_rotated = 0
        stride = max(1, len(source) // SAMPLE_SIZE)
        for index in show_progress(range(len(source)), f"checking {split}"):
            example = None
            try:
                example = source[index]
                counts[example.label] += 1
                num_rotated += has_exif_rotation(example.image)
                if index % stride == 0:
                    run.pixels(example)
            except DataError as error:
                place = example.format_location(index) if example else f"example {index}"
                faults.append(f"{split}, {place}: {error}")
        rotated = _format_rotated(num_rotated, run.config.data.orientation)
        yield _format_counts(split, source, counts) + rotated
        faults += _find_count_faults(split, source, counts)
    if faults:
        more = f"\nand {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        listed = "\n".join(faults[:MAX_FAULTS])
        raise DataError(f"{len(faults)} fault(s):\n{listed}{more}")


def _format_counts(split: str, source: Source, counts: Counter[int]) -> str:
    per_class = [counts[label] for label in range(len(source.class_names))]
    return (
        f"{split}: {len(source):,} examples of {len(source.class_names):,} classes, "
        f"{min(per_class):,} to {max(per_class):,} of each"
    )


def _format_rotated(number: int, orientation: str) -> str:
    """Returns the number of images with an EXIF orientation, and how they are used."""
    if not number:
        return ""
    use = "they are used as stored (data.orientation ignore)"
    if orientation == "apply":
        use = "they are turned upright"
    return f"; {number:,} with an EXIF orientation: {use}"


def _find_count_faults(split: str, source: Source, counts: Counter[int]) -> Iterator[str]:
    classes = len(source.class_names)
    if invalid := sorted(label for label in counts if not 0 <= label < classes):
        yield f"{split}: labels {invalid[:MAX_NAMES]}, but there are {classes} classes, from 0"
    if empty := [name for label, name in enumerate(source.class_names) if not counts[label]]:
        more = " ..." if len(empty) > MAX_NAMES else ""
        yield f"{split}: no example of {_join_first(empty)}{more} ({len(empty)} classes)"


def _find_class_faults(names: tuple[str, ...]) -> Iterator[str]:
    """Yields the faults in the classes of ImageNet; none for other data.

    ImageNet's labels are its WordNet ids in order, and a subset keeps that order.
    """
    if not names or not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return
    in_order = sorted(names)
    if list(names) != in_order:
        first = next(i for i, name in enumerate(names) if name != in_order[i])
        yield (
            f"class {first} is {names[first]} where ImageNet has {in_order[first]}: weights from "
            "elsewhere will not fit these labels; name the folders by WordNet ids, or prepare the "
            "records again"
        )
    imagenet = read_wordnet_ids()
    if unknown := sorted(set(names) - set(imagenet)):
        yield (
            f"{_join_first(unknown)}: {len(unknown)} of these WordNet ids are none of ImageNet's "
            "1,000; remove those classes"
        )
    elif 950 < len(names) < len(imagenet):
        missing = sorted(set(imagenet) - set(names))
        yield (
            f"{len(names)} of ImageNet's 1,000 classes; missing are {_join_first(missing)}: "
            "extract their archives"
        )


def _join_first(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES])


class PreparedSample(NamedTuple):
    """Training examples in the order of the run.

    Attributes:
      before: uint8 [N, S, S, 3], images as they leave the host.
      after: uint8 [N, S, S, 3], images as they enter the network.
      names: The names of their classes.
    """

    before: np.ndarray
    after: np.ndarray
    names: list[str]


def sample_prepared(run: Run, count: int) -> PreparedSample:
    """Returns the first `count` training examples, before and after augmentation on the device."""
    before, after, names = [], [], []
    for batch in map(run.placement.gather, run.train_batches(0)):
        keys = make_example_keys(run.config.seed, batch.position)
        prepared, _ = run.prepare_training(batch, keys)
        before.append(np.asarray(batch.image))
        after.append(np.asarray(run.unscale_images(prepared)))
        names += [run.class_names[label] for label in jax.device_get(batch.label)]
        if len(names) >= count:
            break
    return PreparedSample(
        np.concatenate(before)[:count], np.concatenate(after)[:count], names[:count]
    )


def benchmark_pipeline(run: Run) -> Iterator[str]:
    """Times the input pipeline, by stage on one thread and as a whole on `data.threads`.

    Yields the lines of a table, and a verdict for the accelerators of this run.
    """
    single, threads = _time_pipeline(run, 0), run.config.data.threads
    yield f"{'stage of one thread':24}{'images/s':>10}{'share':>8}"
    for stage, seconds in single.stages.items():
        yield f"{stage:24}{single.images / seconds:10,.0f}{seconds / single.seconds:8.0%}"
    yield f"{'all':24}{single.rate:10,.0f}"
    rate = single.rate
    if threads:
        rate = _time_pipeline(run, threads).rate
        label = f"{threads} threads, {count_cores()} cores"
        yield f"{label:24}{rate:10,.0f}   {rate / single.rate:.2f} times one thread"
    per_core = rate / min(max(threads, 1), count_cores())
    yield (
        f"a core feeds {per_core:,.0f} images/s: an accelerator that trains 1,000 images/s needs "
        f"{1000 / per_core:.1f} cores"
    )
    yield _format_verdict(run, rate, per_core)


class _PipelineTiming(NamedTuple):
    images: int
    seconds: float
    stages: dict[str, float]

    @property
    def rate(self) -> float:
        """Returns the images per second."""
        return self.images / self.seconds


def _time_pipeline(run: Run, threads: int) -> _PipelineTiming:
    data = dataclasses.replace(run.config.data, threads=threads)
    timed = Run(dataclasses.replace(run.config, data=data, steps=2**31), run.placement)
    batches, images = timed.train_batches(0), 0
    next(batches)  # leaves out what happens once, and reading ahead
    before, began = timed.stage_timer.read(), time.perf_counter()
    while time.perf_counter() - began < BENCHMARK_SECONDS:
        batch = next(batches)
        with timed.stage_timer("transfer"):
            jax.block_until_ready(batch)
        images += timed.config.batch_size
    seconds = time.perf_counter() - began
    after = timed.stage_timer.read()
    stages = {stage: after[stage] - before.get(stage, 0) for stage in after}
    return _PipelineTiming(images, seconds, stages)


def _format_verdict(run: Run, rate: float, per_core: float) -> str:
    """Returns whether the host keeps up with the accelerators, from the metrics of a past run."""
    workdir = run.config.workdir
    try:
        rows = [row for row in read_metrics(workdir) if "perf/images_per_second" in row]
    except FileNotFoundError:
        rows = []
    if not rows:
        return f"(train {workdir} for some steps to see how many cores its accelerators need)"
    wanted = max(
        row["perf/images_per_second"] / (1 - row["perf/data_wait_fraction"]) for row in rows
    )
    verdict = f"input-bound: wanted is {wanted / rate:.1f} times as much"
    if rate >= wanted:
        verdict = "the host keeps up"
    return (
        f"{run.placement.devices} device(s) of {workdir} train {wanted:,.0f} images/s and need "
        f"{wanted / per_core:.1f} cores: {verdict}"
    )
