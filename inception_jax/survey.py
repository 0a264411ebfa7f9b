"""What the data of a run look like before anything is trained: counted, decoded, and seen as the network sees them."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data.sources import DataError, Source
from inception_jax.experiment import Run
from inception_jax.training.steps import example_keys

SAMPLE = 1000
"""Examples of a split that are decoded, at equal distances."""


def check(run: Run) -> Iterator[str]:
    """Counts the examples of both splits per class and decodes a sample of them; yields a line for each split.

    Raises:
      DataError: what is wrong, all of it, and what to do.
    """
    faults = list(_order_of_classes(run.class_names))
    for split, source in ((run.config.data.train_split, run.train_source), (run.config.data.test_split, run.test_source)):
        counts: Counter[int] = Counter()
        stride = max(1, len(source) // SAMPLE)
        for index in range(len(source)):
            example = None
            try:
                example = source[index]
                counts[example.label] += 1
                if index % stride == 0:
                    run.pixels(example)
            except DataError as error:
                faults.append(f"{split}, {example.at(index) if example else f'example {index}'}: {error}")
        yield _described(split, source, counts)
        faults += _counted(split, source, counts)
    if faults:
        more = f"\nand {len(faults) - 10} more" if len(faults) > 10 else ""
        raise DataError(f"{len(faults)} fault(s):\n" + "\n".join(faults[:10]) + more)


def _described(split: str, source: Source, counts: Counter[int]) -> str:
    per_class = [counts[label] for label in range(len(source.class_names))]
    return f"{split}: {len(source):,} examples of {len(source.class_names):,} classes, {min(per_class):,} to {max(per_class):,} of each"


def _counted(split: str, source: Source, counts: Counter[int]) -> Iterator[str]:
    classes = len(source.class_names)
    if odd := sorted(label for label in counts if not 0 <= label < classes):
        yield f"{split}: labels {odd[:5]}, but there are {classes} classes, from 0"
    if empty := [name for label, name in enumerate(source.class_names) if not counts[label]]:
        yield f"{split}: no example of {', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''} ({len(empty)} classes)"


def _order_of_classes(names: tuple[str, ...]) -> Iterator[str]:
    """ImageNet's labels are its WordNet ids in order."""
    if names and all(re.fullmatch(r"n\d{8}", name) for name in names) and list(names) != sorted(names):
        first = next(i for i, (name, right) in enumerate(zip(names, sorted(names), strict=True)) if name != right)
        yield f"class {first} is {names[first]} where ImageNet has {sorted(names)[first]}: weights from elsewhere will not fit these labels"


class Seen(NamedTuple):
    """Training examples in the order of the run: as they leave the host, and as they enter the network; uint8 [N, S, S, 3]."""

    before: np.ndarray
    after: np.ndarray
    names: list[str]


def seen(run: Run, count: int) -> Seen:
    """The first `count` training examples of the run, before and after what is done to them on the accelerator."""
    before, after, names = [], [], []
    for batch in run.train_batches(0):
        images, positions, labels = run.placement.gather((batch.image, batch.position, batch.label))
        prepared = run.prepare_training(images, example_keys(run.config.seed, positions))
        before.append(np.asarray(images))
        after.append(np.asarray(jnp.clip(jnp.rint((prepared + 1) * 127.5), 0, 255).astype(jnp.uint8)))
        names += [run.class_names[label] for label in jax.device_get(labels)]
        if len(names) >= count:
            break
    return Seen(np.concatenate(before)[:count], np.concatenate(after)[:count], names[:count])
