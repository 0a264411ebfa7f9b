"""Frechet distances beside those of other programs, and of sets with few images."""

import ast

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.generative.feature_set import FeatureSet
from inception_jax.generative.frechet import (
    FeatureMoments,
    choose_sizes,
    compute_distances_by_size,
    extrapolate,
    factor_covariance,
    frechet_distance,
    jackknife_distance,
    moments_from_rows,
)
from tests.conftest import ROOT
from tests.generative.samples import EXPECTED, load

FEATURES = load("features_fixture")
REAL, FAKE = moments_from_rows(FEATURES["real"]), moments_from_rows(FEATURES["fake"])
FEW = {name: moments_from_rows(rows) for name, rows in load("rank_deficient_fixture").items()}
EXACT = EXPECTED["fid_rank_deficient"]["exact (nuclear norm)"]


def without_rows(moments):
    """The covariance alone, as in another program's file."""
    return FeatureMoments(None, moments.mean, moments.covariance)


def test_the_distance_is_the_reference_and_pytorch_fids_to_twelve_digits():
    found = frechet_distance(REAL, FAKE)
    for program in ("reference: float64, ddof 1, eigh", "pytorch-fid 0.3.0", "clean-fid 0.1.35"):
        assert found.value == pytest.approx(EXPECTED["fid"][program], rel=1e-12)
    assert found.mean_term == pytest.approx(EXPECTED["fid"]["mean term"], rel=1e-12)


def test_with_ddof_0_the_distance_is_stylegans():
    expected = EXPECTED["fid"]["StyleGAN3 form (ddof 0)"]
    assert frechet_distance(REAL, FAKE, 0).value == pytest.approx(expected, rel=1e-12)


def test_the_distance_is_symmetric_and_has_no_negative_value():
    assert frechet_distance(FAKE, REAL).value == pytest.approx(frechet_distance(REAL, FAKE).value)
    found = frechet_distance(REAL, REAL)
    assert found.value == 0
    assert found.is_rounding
    # pytorch-fid 26: -4.8e-5 for a set in another order.
    shuffled = np.random.default_rng(0).permutation(FEATURES["real"])
    assert frechet_distance(REAL, moments_from_rows(shuffled)).value == 0


@pytest.mark.parametrize("real", ["rows", "covariance"])
@pytest.mark.parametrize("fake", ["rows", "covariance"])
def test_fewer_images_than_features_give_the_nuclear_norm(real, fake):
    """Other programs are off in the seventh digit, each otherwise."""
    sets = [
        moments if form == "rows" else without_rows(moments)
        for moments, form in zip(FEW.values(), (real, fake), strict=True)
    ]
    assert frechet_distance(*sets).value == pytest.approx(EXACT, rel=1e-12)


def test_a_set_with_few_images_is_compared_with_one_that_has_many():
    """The N x N form beside the covariance of all."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 64)) @ np.diag(np.linspace(0.1, 2, 64))
    few = moments_from_rows(rows)
    assert few.rows is not None
    expected = frechet_distance(REAL, without_rows(few)).value
    assert frechet_distance(REAL, few).value == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(few, REAL).value == pytest.approx(expected, rel=1e-12)


def test_a_collapsed_set_has_a_distance():
    """TTUR 4 and BigGAN-PyTorch 49: NaN, or complex numbers, for equal images."""
    collapsed = moments_from_rows(np.repeat(FEATURES["fake"][:1], 300, axis=0))
    expected = np.square(REAL.mean - FEATURES["fake"][0]).sum() + np.trace(REAL.covariance)
    assert frechet_distance(REAL, collapsed).value == pytest.approx(expected, rel=1e-12)


def test_a_covariance_without_full_rank_is_factored_by_its_eigenvalues():
    covariance = FEW["a"].covariance
    factor = factor_covariance(covariance)
    assert factor.shape[1] == 63
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-12 * covariance.max())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((1, 4)), "two images or more"),
        (np.zeros((0, 4)), "two images or more"),
        (np.array([[0.0, 1], [np.nan, 2], [3, 4]]), "1 of 3 images are NaN or infinite, the first"),
        (np.array([[0.0, 1], [np.inf, 2], [3, 4]]), "NaN or infinite"),
    ],
)
def test_features_that_have_no_distance_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        moments_from_rows(rows)


@pytest.mark.parametrize("diagonal", [[1, 1, 1, -50], [-1, -1, -1, -1]])
def test_a_matrix_that_is_no_covariance_is_refused(diagonal):
    own = FeatureMoments(None, np.zeros(4), np.eye(4))
    odd = FeatureMoments(None, np.zeros(4), np.diag(np.array(diagonal, float)))
    for sets in ((own, odd), (odd, own)):
        with pytest.raises(DataError, match="covariance"):
            frechet_distance(*sets)
    zero = FeatureMoments(None, np.zeros(4), np.zeros((4, 4)))
    assert frechet_distance(zero, own).value == 4


def test_two_images_have_a_distance_and_no_interval():
    moments = moments_from_rows(FEATURES["fake"][:2])
    assert frechet_distance(REAL, moments).value > 0
    assert FeatureSet("two", moments).list_left_out() is None


def test_scores_need_no_scipy():
    """Its root of a matrix has changed under pytorch-fid, clean-fid, StyleGAN3, EDM and jax-fid."""
    for file in (ROOT / "inception_jax" / "generative").glob("*.py"):
        names = [
            getattr(node, "module", None) or node.names[0].name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not [name for name in names if name.partition(".")[0] == "scipy"], file


def test_sets_of_other_numbers_of_features_are_refused():
    with pytest.raises(DataError, match="64 features for an image and the other 512"):
        frechet_distance(REAL, FEW["a"])


def test_fid_infinity_is_that_of_dgm_eval():
    """Its covariances of fewer images than features are off in the eighth digit."""
    sizes = choose_sizes(260)
    assert (sizes[0], sizes[-1], len(sizes)) == (26, 260, 15)
    found = extrapolate(sizes, compute_distances_by_size(REAL, FEATURES["fake"], sizes)).intercept
    (expected,) = EXPECTED["fid_infinity"].values()
    assert found == pytest.approx(expected, rel=1e-7)


def test_sizes_of_large_sets_begin_at_5000():
    assert choose_sizes(50_000)[:2] == [5000, 8214]


def leave_out(rows):
    return lambda block: moments_from_rows(rows[np.arange(len(rows)) % 20 != block])


@pytest.mark.slow
def test_the_jackknife_removes_the_bias_that_a_bootstrap_adds():
    """Two normal distributions whose distance is known; a bootstrap's is biased twice."""
    rng = np.random.default_rng(0)
    d, n = 32, 2000
    scale = np.linspace(0.5, 2, d)
    truth = np.square(0.1 * np.ones(d)).sum() + np.square(scale - 1.2 * scale).sum()
    corrected, plain, deviations, bootstrap = [], [], [], []
    for _ in range(12):
        real, fake = rng.normal(size=(n, d)) * scale, rng.normal(size=(n, d)) * 1.2 * scale + 0.1
        own, others = moments_from_rows(real), moments_from_rows(fake)
        value = frechet_distance(own, others).value
        bias, deviation = jackknife_distance(value, leave_out(real), leave_out(fake), 20)
        plain.append(value - truth)
        corrected.append(value - bias - truth)
        deviations.append(deviation)
        again = moments_from_rows(fake[rng.integers(0, n, n)])
        bootstrap.append(frechet_distance(own, again).value - value)
    error = np.std(plain, ddof=1)
    assert np.mean(plain) > 3 * error / np.sqrt(12)
    assert abs(np.mean(corrected)) < 3 * error / np.sqrt(12)
    assert 0.5 < np.mean(deviations) / error < 2
    assert np.mean(bootstrap) > 0.3 * np.mean(plain)
