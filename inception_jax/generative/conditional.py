"""Frechet distances that take the classes, or other conditions, of images into account."""

from typing import NamedTuple

import numpy as np

from inception_jax.data.source import DataError
from inception_jax.generative.frechet import (
    FeatureMoments,
    check_features,
    frechet_distance,
    moments_from_rows,
)


def classwise_distances(
    real: np.ndarray,
    real_labels: np.ndarray,
    fake: np.ndarray,
    fake_labels: np.ndarray,
    ddof: int = 1,
) -> dict[int, float]:
    """Returns the Frechet distance of each class that both sets have two images of or more.

    The mean over classes is the intra-FID of Miyato and Koyama 2018, arXiv:1802.05637. Classes are
    small, and these distances are mostly bias: compare equal numbers of images.

    Raises:
      DataError: No class has two images in each set.
    """
    found = {}
    for label in np.intersect1d(real_labels, fake_labels).tolist():
        own, others = real[real_labels == label], fake[fake_labels == label]
        if min(len(own), len(others)) > 1:
            distance = frechet_distance(moments_from_rows(own), moments_from_rows(others), ddof)
            found[int(label)] = distance.value
    if not found:
        raise DataError(
            "no class has two images in both sets: give sets with the same classes, "
            "FOLDER/<class>/<image>"
        )
    return found


class ConditionalDistance(NamedTuple):
    """A conditional Frechet distance: its value, and the part from conditional means."""

    value: float
    mean_term: float


def conditional_distance(
    real: np.ndarray,
    real_conditions: np.ndarray,
    fake: np.ndarray,
    fake_conditions: np.ndarray,
    ddof: int = 1,
) -> ConditionalDistance:
    """Returns the conditional Frechet distance (CFID) of features [N, d] and [M, d].

    Both sets are taken as normal given their conditions: their means are linear in the conditions,
    and their covariances given them constant. The value is E |m(c) - m'(c)|^2 over the conditions
    of both sets, and the Frechet term of the covariances. Source: Soloveitchik et al. 2021,
    arXiv:2103.11521, equation 8.

    Args:
      real: Features of the reference set.
      real_conditions: [N, c], their conditions; `encode_classes` for classes.
      fake: Features of the generated set.
      fake_conditions: [M, c].
      ddof: As of `frechet_distance`.

    Raises:
      DataError: See `check_features`; or conditions are not those of the features.
    """
    for rows, conditions in ((real, real_conditions), (fake, fake_conditions)):
        check_features(rows)
        if len(conditions) != len(rows):
            raise DataError(f"{len(rows)} images have {len(conditions)} conditions: give one each")
    everything = np.concatenate([real_conditions, fake_conditions])
    predicted, given = [], []
    for rows, conditions in ((real, real_conditions), (fake, fake_conditions)):
        inputs = _with_constant(conditions)
        coefficients = np.linalg.lstsq(inputs, np.asarray(rows, np.float64), rcond=None)[0]
        predicted.append(_with_constant(everything) @ coefficients)
        rest = rows - inputs @ coefficients
        zero = np.zeros(rows.shape[1])
        is_few = len(rows) <= rows.shape[1]
        given.append(
            FeatureMoments(len(rows), zero, rows=rest)
            if is_few
            else FeatureMoments(len(rows), zero, rest.T @ rest / (len(rows) - 1))
        )
    mean_term = float(np.square(predicted[0] - predicted[1]).sum(1).mean())
    return ConditionalDistance(
        mean_term + frechet_distance(given[0], given[1], ddof).value, mean_term
    )


def encode_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns labels [N] as conditions [N, classes], 1 for the own class and 0 for others."""
    return np.eye(classes)[labels]


def _with_constant(conditions: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(conditions), 1)), conditions], axis=1)
