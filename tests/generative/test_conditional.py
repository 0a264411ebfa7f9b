"""Distances by class and by condition."""

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.generative.conditional import (
    classwise_distances,
    conditional_distance,
    encode_classes,
)
from inception_jax.generative.frechet import frechet_distance, moments_from_rows
from tests.generative.samples import load

FEATURES = load("features_fixture")
REAL, FAKE = FEATURES["real"], FEATURES["fake"]
OWN, OTHERS = np.arange(300) % 3, np.arange(260) % 3


def test_a_class_is_scored_as_if_it_were_alone():
    found = classwise_distances(REAL, OWN, FAKE, OTHERS)
    assert sorted(found) == [0, 1, 2]
    for label, value in found.items():
        own, others = REAL[label == OWN], FAKE[label == OTHERS]
        expected = frechet_distance(moments_from_rows(own), moments_from_rows(others)).value
        assert value == pytest.approx(expected, rel=1e-12)


def test_classes_without_two_images_in_both_sets_are_left_out_or_refused():
    labels = np.where(np.arange(260) == 0, 2, OTHERS % 2)
    assert sorted(classwise_distances(REAL, OWN, FAKE, labels)) == [0, 1]
    with pytest.raises(DataError, match="no class has two images in both sets"):
        classwise_distances(REAL, OWN, FAKE, OTHERS + 5)


def test_without_conditions_the_conditional_distance_is_the_distance():
    found = conditional_distance(REAL, np.zeros((300, 1)), FAKE, np.zeros((260, 1)))
    expected = frechet_distance(moments_from_rows(REAL), moments_from_rows(FAKE))
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.mean_term == pytest.approx(expected.mean_term, rel=1e-9)


def test_of_classes_the_mean_term_is_that_of_class_means():
    """Sets of equal size with exact shares of the classes, by the definition."""
    real, fake, labels = REAL[:240], FAKE[:240], np.arange(240) % 3
    conditions = encode_classes(labels, 3)
    found = conditional_distance(real, conditions, fake, conditions)
    means = [
        np.square(real[labels == i].mean(0) - fake[labels == i].mean(0)).sum() for i in range(3)
    ]
    assert found.mean_term == pytest.approx(np.mean(means), rel=1e-9)
    rest = [
        rows - np.stack([rows[labels == i].mean(0) for i in range(3)])[labels]
        for rows in (real, fake)
    ]
    within = frechet_distance(*map(moments_from_rows, rest)).value
    assert found.value - found.mean_term == pytest.approx(within, rel=1e-9)


def test_classes_that_are_exchanged_raise_the_conditional_distance_alone():
    conditions = encode_classes(OWN, 3)
    shifted = REAL + 5 * encode_classes(OWN, 64)[:, :64]
    same = conditional_distance(shifted, conditions, shifted, conditions)
    wrong = conditional_distance(shifted, conditions, shifted, encode_classes((OWN + 1) % 3, 3))
    assert same.value == pytest.approx(0, abs=1e-9)
    assert wrong.value > 10


def test_conditions_of_another_number_are_refused():
    with pytest.raises(DataError, match="300 images have 299 conditions"):
        conditional_distance(REAL, np.zeros((299, 1)), FAKE, np.zeros((260, 1)))
