"""Scores from nearest neighbours: precision, recall, density, coverage, and copies of real images.

The ball of an image reaches to its k-th neighbour in its own set, itself not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from inception_jax.data.source import DataError

BLOCK_BYTES = 2**26
"""Bytes of the distances that are in memory at once: 50,000 x 50,000 would be 20 GB."""


def iterate_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields rows of the squared Euclidean distances of `a` [N, d] and `b` [M, d], in float64."""
    b = np.asarray(b, np.float64)
    squares = np.square(b).sum(1)
    rows = max(1, BLOCK_BYTES // (8 * max(len(b), 1)))
    for start in range(0, len(a), rows):
        part = slice(start, min(start + rows, len(a)))
        own = np.asarray(a[part], np.float64)
        found = np.square(own).sum(1)[:, None] - 2 * (own @ b.T) + squares
        yield part, np.maximum(found, 0, out=found)


def find_radii(features: np.ndarray, k: int) -> np.ndarray:
    """Returns the squared distance [N] of each image to its k-th neighbour in its own set.

    Raises:
      DataError: The set has no more than `k` images.
    """
    if len(features) <= k:
        raise DataError(
            f"a set has {len(features)} images, and none has {k} neighbours: wanted are "
            f"{k + 1} or more"
        )
    found = np.empty(len(features))
    for part, distances in iterate_distances(features, features):
        # Rounding leaves an image a distance to itself, which must not be taken for a neighbour's.
        distances[np.arange(len(distances)), np.arange(part.start, part.stop)] = 0
        found[part] = np.partition(distances, k, axis=1)[:, k]
    return found


class PrecisionRecall(NamedTuple):
    """Membership of images in the balls of the other set.

    Attributes:
      fake_is_in: [M], for each generated image whether a real image's ball holds it; the mean is
        precision.
      real_is_in: [N], for each real image whether a generated one's ball holds it; the mean is
        recall.
    """

    fake_is_in: np.ndarray
    real_is_in: np.ndarray


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Returns improved precision and recall of features [N, d] and [M, d].

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991; an image on the edge of a ball is in it.
    Which set is which matters: exchanged, precision is recall.

    Raises:
      DataError: A set has no more than `k` images.
    """
    real_radii, fake_radii = find_radii(real, k), find_radii(fake, k)
    fake_is_in, real_is_in = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for part, distances in iterate_distances(fake, real):
        fake_is_in[part] = (distances <= real_radii).any(1)
        real_is_in |= (distances <= fake_radii[part, None]).any(0)
    return PrecisionRecall(fake_is_in, real_is_in)


class DensityCoverage(NamedTuple):
    """Density and coverage by image.

    Attributes:
      balls: [M], the number of real balls that hold each generated image, over k; the mean is
        density.
      is_covered: [N], for each real image whether its ball holds a generated one; the mean is
        coverage.
    """

    balls: np.ndarray
    is_covered: np.ndarray


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> DensityCoverage:
    """Returns density and coverage of features [N, d] and [M, d].

    Source: Naeem et al. 2020, arXiv:2002.09797, and its program prdc: an image on the edge of a
    ball is not in it.

    Raises:
      DataError: The real set has no more than `k` images.
    """
    radii = find_radii(real, k)
    balls, is_covered = np.zeros(len(fake)), np.zeros(len(real), bool)
    for part, distances in iterate_distances(fake, real):
        is_inside = distances < radii
        balls[part] = is_inside.sum(1) / k
        is_covered |= is_inside.any(0)
    return DensityCoverage(balls, is_covered)


@dataclass(frozen=True)
class Nearest:
    """The nearest real image of each generated one.

    Attributes:
      index: [M] int, its index in the real set.
      distance: [M] Euclidean distance.
      cosine_distance: [M], 1 - |cos|, to the real image that is nearest by it.
      is_closer: [M], whether it is nearer than that real image's own nearest real neighbour: about
        half of them for independent images of the same distribution, all of them for copies.
    """

    index: np.ndarray
    distance: np.ndarray
    cosine_distance: np.ndarray
    is_closer: np.ndarray


def find_nearest(real: np.ndarray, fake: np.ndarray) -> Nearest:
    """Returns the nearest real image of each generated one, of features [N, d] and [M, d].

    Sources: the mean of `is_closer` is one less authenticity (Alaa et al. 2022, arXiv:2102.08921);
    the mean of `cosine_distance` is the memorisation distance of MiFID (Bai et al. 2021,
    arXiv:2106.03062).

    Raises:
      DataError: The real set has fewer than two images.
    """
    own = find_radii(real, 1)
    index, distance, cosine = np.zeros(len(fake), int), np.zeros(len(fake)), np.zeros(len(fake))
    for part, distances in iterate_distances(fake, real):
        index[part] = distances.argmin(1)
        distance[part] = distances.min(1)
    for part, distances in iterate_distances(_normalise(fake), _normalise(real)):
        cosine[part] = 1 - np.abs(1 - distances / 2).max(1)
    return Nearest(index, np.sqrt(distance), cosine, distance < own[index])


def _normalise(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-300)
