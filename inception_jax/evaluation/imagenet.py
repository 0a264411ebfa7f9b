"""Lists about ImageNet's validation images: excluded images, and reassessed labels."""

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
    """The lists for N examples.

    Attributes:
      numbers: [N] numbers of the validation images.
      kept: [N] False for excluded examples; None without a list.
      labels: Reassessed labels of each validation image by number; None without a list.
    """

    numbers: np.ndarray
    kept: np.ndarray | None
    labels: list[list[int]] | None


def read_lists(source: Source, exclude: Path | None, real: Path | None) -> ValidationLists | None:
    """Returns the lists for the examples of `source`; None where no file is given.

    Raises:
      DataError: See `parse_image_numbers`, `read_excluded` and `read_reassessed_labels`.
    """
    if not (exclude or real):
        return None
    labels = read_reassessed_labels(real) if real else None
    own = parse_image_numbers(source)
    return ValidationLists(own, read_excluded(exclude, own) if exclude else None, labels)


NUMBER_PATTERN = re.compile(r"val_(\d{8})")


def parse_image_numbers(source: Source) -> np.ndarray:
    """Returns [N] the number in each file name: 1 to 50,000 of ILSVRC2012_val_00000001.JPEG.

    Raises:
      DataError: A name has no number.
    """
    found = []
    for i in range(len(source)):
        name = source[i].name
        number = NUMBER_PATTERN.search(name)
        if not number:
            raise DataError(
                f"example {i} is called {name!r}: --exclude and --real go by ImageNet's own names, "
                "ILSVRC2012_val_00000001.JPEG; "
                "give data that keeps them (TFDS does, and inception-jax data prepare)"
            )
        found.append(int(number[1]))
    return np.array(found)


def read_excluded(file: Path, own: np.ndarray) -> np.ndarray:
    """Returns [N] False for the examples whose number is a line of `file`.

    ILSVRC's development kit of the localisation task lists 1,762, without which arXiv:1512.00567
    and arXiv:1602.07261 evaluate 48,238 images.

    Raises:
      DataError: The file is missing, a line is no number, or a number fits no example.
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
            f"--exclude {file}: none of its {len(listed)} numbers is one of these {len(own)} "
            "examples"
        )
    return kept


def read_reassessed_labels(file: Path) -> list[list[int]]:
    """Returns the labels of each validation image by number, less one.

    Source: `real.json` of arXiv:2006.07159, in which 46,837 images have labels.

    Raises:
      DataError: The file is missing or has another form.
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
            f"--real {file} holds no list of lists of numbers: wanted is real.json, with the "
            "classes of image 1 first"
        )
    return found


def score_reassessed(
    labels: Sequence[Sequence[int]], found: Predictions, own: np.ndarray
) -> dict[str, float]:
    """Returns `real`, the share of images whose likeliest class is one of `labels`.

    Returns also its `real_interval`, and the `real_count` of images with labels.

    Raises:
      DataError: An image is not in the list, or no image has labels.
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
