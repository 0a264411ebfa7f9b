"""Precision, recall, density, coverage and copies, as fractions of equal images."""

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.generative import neighbours
from inception_jax.generative.neighbours import (
    density_coverage,
    find_nearest,
    find_radii,
    precision_recall,
)
from tests.generative.samples import EXPECTED, load

FEATURES = load("features_fixture")
REAL, FAKE = FEATURES["real"], FEATURES["fake"]


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_precision_and_recall_are_the_same_images_as_the_papers_program_counts(k, dtype):
    found = precision_recall(REAL.astype(dtype), FAKE.astype(dtype), k)
    expected = EXPECTED["precision_recall"][f"Kynkaanniemi form, float64, k={k}"]
    assert found.fake_is_in.mean() == expected["precision"]
    assert found.real_is_in.mean() == expected["recall"]


@pytest.mark.parametrize("k", [3, 5])
def test_density_and_coverage_are_prdcs(k):
    found = density_coverage(REAL, FAKE, k)
    expected = EXPECTED["prdc"][f"prdc 0.2, nearest_k={k}"]
    assert found.balls.mean() == pytest.approx(expected["density"], rel=1e-14)
    assert found.is_covered.mean() == expected["coverage"]


def test_exchanged_sets_exchange_precision_and_recall():
    """torch-fidelity 58: a release had them swapped for four years."""
    found, other = precision_recall(REAL, FAKE), precision_recall(FAKE, REAL)
    np.testing.assert_array_equal(found.fake_is_in, other.real_is_in)
    np.testing.assert_array_equal(found.real_is_in, other.fake_is_in)


def test_blocks_of_distances_change_no_image(monkeypatch):
    expected, near = precision_recall(REAL, FAKE), find_nearest(REAL, FAKE)
    dense = density_coverage(REAL, FAKE)
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 8 * 300 * 7)
    for name, array in expected._asdict().items():
        np.testing.assert_array_equal(getattr(precision_recall(REAL, FAKE), name), array)
    np.testing.assert_array_equal(density_coverage(REAL, FAKE).balls, dense.balls)
    np.testing.assert_array_equal(find_nearest(REAL, FAKE).index, near.index)


def test_the_nearest_images_are_found_by_definition():
    distances = np.linalg.norm(FAKE[:, None] - REAL, axis=2)
    found = find_nearest(REAL, FAKE)
    np.testing.assert_array_equal(found.index, distances.argmin(1))
    np.testing.assert_allclose(found.distance, distances.min(1), rtol=1e-10)
    own = np.linalg.norm(REAL[:, None] - REAL, axis=2) + np.diag(np.full(300, np.inf))
    is_closer = distances.min(1) < own.min(1)[distances.argmin(1)]
    np.testing.assert_array_equal(found.is_closer, is_closer)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (FAKE, REAL)]
    np.testing.assert_allclose(
        found.cosine_distance, 1 - np.abs(unit[0] @ unit[1].T).max(1), atol=1e-12
    )


def test_copies_are_closer_than_any_real_neighbour_and_new_images_are_so_half_of_the_time():
    found = find_nearest(REAL, REAL[:50] + 1e-4)
    assert found.is_closer.all()
    np.testing.assert_array_equal(found.index, np.arange(50))
    rng = np.random.default_rng(0)
    new = find_nearest(rng.normal(size=(2000, 8)), rng.normal(size=(1000, 8)))
    assert 0.4 < new.is_closer.mean() < 0.6


def test_sets_with_too_few_neighbours_are_refused():
    with pytest.raises(DataError, match="3 images, and none has 3 neighbours"):
        find_radii(REAL[:3], 3)
