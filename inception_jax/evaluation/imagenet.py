"""ImageNet's validation images by other lists than their own labels: those to leave out, and the reassessed labels."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inception_jax.atomic_io import split_lines
from inception_jax.data.source import DataError, Source
from inception_jax.evaluation.confidence import wilson_half_width
from inception_jax.evaluation.predictions import Predictions


class ValidationLists(NamedTuple):
    """What is known of N examples beside their labels: which are `kept` [N], and the reassessed `labels` of each image by number."""

    numbers: np.ndarray
    kept: np.ndarray | None
    labels: list[list[int]] | None


def read_lists(source: Source, exclude: Path | None, real: Path | None) -> ValidationLists | None:
    """Of the examples of `source`, by the files that are given; None where none is.

    Raises:
      DataError: see `parse_image_numbers`, `read_excluded` and `read_reassessed_labels`.
    """
    if not (exclude or real):
        return None
    labels = read_reassessed_labels(real) if real else None
    own = parse_image_numbers(source)
    return ValidationLists(own, read_excluded(exclude, own) if exclude else None, labels)


NUMBER_PATTERN = re.compile(r"val_(\d{8})")


def parse_image_numbers(source: Source) -> np.ndarray:
    """[N] the number in each example's file name: 1 to 50,000 of ILSVRC2012_val_00000001.JPEG.

    Raises:
      DataError: an example without one.
    """
    found = []
    for i in range(len(source)):
        name = source[i].name
        number = NUMBER_PATTERN.search(name)
        if not number:
            raise DataError(
                f"example {i} is called {name!r}: --exclude and --real go by ImageNet's own names, ILSVRC2012_val_00000001.JPEG; "
                "give data that keeps them (TFDS does, and inception-jax data prepare)"
            )
        found.append(int(number[1]))
    return np.array(found)


def read_excluded(file: Path, own: np.ndarray) -> np.ndarray:
    """[N] False for the examples whose number stands in `file`, one on a line: the 1,762 that the development kit of the localisation
    task blacklists, without which arXiv:1512.00567 and arXiv:1602.07261 have 48,238.

    Raises:
      DataError: no such file, lines that are no numbers, or not one of these examples.
    """
    try:
        listed = [int(word) for line in split_lines(file.read_bytes()) for word in line.split()]
        if not all(0 <= number < 2**31 for number in listed):
            raise ValueError("the images have numbers from 1 to 50,000")
    except (OSError, ValueError) as error:
        raise DataError(
            f"--exclude {file}: {error}; wanted is a file with one number on each line"
        ) from error
    kept = ~np.isin(own, listed)
    if kept.all():
        raise DataError(
            f"--exclude {file}: none of its {len(listed)} numbers is one of these {len(own)} examples"
        )
    return kept


def read_reassessed_labels(file: Path) -> list[list[int]]:
    """The labels of each validation image by number, less one: `real.json` of arXiv:2006.07159, of which 46,837 are not empty.

    Raises:
      DataError: no such file, or another form.
    """
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"--real {file}: {error}; wanted is real.json, a list of 50,000 lists of classes"
        ) from error
    if not isinstance(found, list) or not all(
        isinstance(labels, list) and {*map(type, labels)} <= {int} for labels in found
    ):
        raise DataError(
            f"--real {file} holds no list of lists of numbers: wanted is real.json, with the classes of image 1 first"
        )
    return found


def score_reassessed(
    labels: Sequence[Sequence[int]], found: Predictions, own: np.ndarray
) -> dict[str, float]:
    """`real`, the share of images whose likeliest class is one of `labels`, its `real_interval`, and the `real_count` that have any.

    Raises:
      DataError: an image beyond the list, or no image that has labels.
    """
    if own.max() > len(labels):
        raise DataError(f"image {own.max()} has no labels: the list ends with image {len(labels)}")
    top = found.probabilities.argmax(-1)
    hits = [
        int(top[i]) in labels[number - 1]
        for i, number in enumerate(own)
        if labels[number - 1] and found.seen[i]
    ]
    if not hits:
        raise DataError(f"not one of {len(own)} images has reassessed labels")
    share = sum(hits) / len(hits)
    return {
        "real": share,
        "real_interval": wilson_half_width(share, len(hits)),
        "real_count": len(hits),
    }
