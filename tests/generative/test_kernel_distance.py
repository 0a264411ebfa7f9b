"""Kernel distances beside those of other programs."""

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.generative.kernel_distance import (
    Subsets,
    draw_subsets,
    estimate_kid_interval,
    kernel_distance,
)
from tests.generative.samples import EXPECTED, load

FEATURES = load("features_fixture")
REAL, FAKE = FEATURES["real"], FEATURES["fake"]


def mmd_by_definition(x, y):
    def k(a, b):
        return (a @ b.T / 64 + 1) ** 3

    n, m = len(x), len(y)
    xx, yy = k(x, x), k(y, y)
    return (
        (xx.sum() - np.trace(xx)) / (n * (n - 1))
        + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        - 2 * k(x, y).mean()
    )


def test_subsets_are_those_that_torch_fidelity_draws():
    drawn = list(draw_subsets(300, 260, Subsets(10, 100)))
    expected = load("kid_subsets")
    np.testing.assert_array_equal([real for real, _ in drawn], expected["real"])
    np.testing.assert_array_equal([fake for _, fake in drawn], expected["fake"])


def test_the_distance_over_subsets_is_torch_fidelitys_to_its_twelfth_digit():
    found = kernel_distance(REAL, FAKE, "subsets", Subsets(10, 100))
    expected = EXPECTED["kid"]
    mean, deviation = expected[
        "torch-fidelity 0.4.0: 10 subsets of 100, RandomState(2020), fake drawn first"
    ]
    assert found.value == pytest.approx(mean, rel=1e-12)
    assert found.parts.std() == pytest.approx(deviation, rel=1e-12)
    np.testing.assert_allclose(found.parts, expected["the same by subset, reference"], rtol=1e-12)


def test_the_same_subsets_can_be_given_by_their_indices():
    stored = load("kid_subsets")
    pairs = list(zip(stored["real"], stored["fake"], strict=True))
    drawn = kernel_distance(REAL, FAKE, "subsets", Subsets(10, 100))
    assert kernel_distance(REAL, FAKE, "subsets", pairs).value == drawn.value


def test_the_distance_is_clean_fids_where_its_generator_begins_with_0():
    found = kernel_distance(REAL, FAKE, "subsets", Subsets(10, 100, seed=0, shrinks=True))
    expected = EXPECTED["kid"][
        "clean-fid 0.1.35: np.random.seed(0), 10 subsets of 100, its first argument real"
    ]
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_the_distance_over_blocks_is_tf_gans():
    found = kernel_distance(REAL, FAKE, "blocks", block_size=100)
    mean, error = EXPECTED["kid"][
        "TF-GAN form: blocks in order, max_block_size 100: mean, standard error"
    ]
    assert found.value == pytest.approx(mean, rel=1e-12)
    assert found.parts.std(ddof=1) / np.sqrt(3) == pytest.approx(error, rel=1e-12)


def test_the_distance_of_all_pairs_is_the_definition():
    found = kernel_distance(REAL, FAKE, "all").value
    assert found == pytest.approx(mmd_by_definition(REAL, FAKE), rel=1e-12)
    expected = EXPECTED["kid"]["all pairs, unbiased (nicefid's form)"]
    assert found == pytest.approx(expected, rel=1e-12)


def test_float32_features_are_multiplied_in_float64():
    found = kernel_distance(REAL.astype(np.float32), FAKE.astype(np.float32), "all").value
    assert found == pytest.approx(kernel_distance(REAL, FAKE, "all").value, rel=1e-12)


def test_the_interval_is_the_jackknife_by_definition():
    owners = np.arange(300) % 10, np.arange(260) % 10
    left_out = [mmd_by_definition(REAL[owners[0] != i], FAKE[owners[1] != i]) for i in range(10)]
    expected = np.sqrt(9 / 10 * np.square(left_out - np.mean(left_out)).sum())
    bias, deviation = estimate_kid_interval(REAL, FAKE)
    assert bias == 0
    assert deviation == pytest.approx(expected, rel=1e-9)


def test_sets_that_are_smaller_than_a_subset_are_refused_with_what_to_give():
    with pytest.raises(DataError, match=r"1,000 images, and a set has 260.*--kid-subset-size 260"):
        kernel_distance(REAL, FAKE, "subsets", Subsets())
    with pytest.raises(DataError, match="generated set has 1 images"):
        kernel_distance(REAL, FAKE[:1])
    with pytest.raises(DataError, match="fewer than two to a block"):
        kernel_distance(REAL, FAKE[:5], "blocks", block_size=100)
