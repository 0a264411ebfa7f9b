"""Inception Scores beside those of other programs."""

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.generative.inception_score import (
    Splits,
    estimate_score_interval,
    inception_score,
)
from tests.generative.samples import EXPECTED, load

LOGITS = load("features_fixture")["fake_logits"]
SCORES = EXPECTED["inception_score"]


@pytest.mark.parametrize(
    ("splits", "program"),
    [
        (Splits(10), "torch-fidelity 0.4.0, 10 splits, shuffle=False"),
        (Splits(10, seed=2020), "torch-fidelity 0.4.0, 10 splits, shuffle=True"),
        (Splits(10), "StyleGAN3 form, 10 splits in order"),
        (Splits(10, ddof=1), "piq 0.8.0, 10 splits in order; deviation ddof 1"),
    ],
)
def test_a_score_over_splits_is_another_programs_to_its_twelfth_digit(splits, program):
    mean, deviation = SCORES[program]
    found = inception_score(LOGITS, splits)
    assert found.value == pytest.approx(mean, rel=1e-12)
    assert found.compute_deviation(splits.ddof) == pytest.approx(deviation, rel=1e-12)


def test_a_score_of_one_split_or_of_runs_is_adms():
    one = SCORES["one split (TF-GAN, and ADM for N <= 5000)"]
    assert inception_score(LOGITS).value == pytest.approx(one, rel=1e-12)
    runs = SCORES["ADM form with split_size 100 (100, 100, 60)"]
    assert inception_score(LOGITS, Splits(run=100)).value == pytest.approx(runs, rel=1e-12)
    assert inception_score(LOGITS, Splits(run=5000)).value == pytest.approx(one, rel=1e-12)


def test_chunks_are_those_of_torch():
    """torch.arange(101).chunk(10) has nine parts of 11 and one of 2; of 25, nine."""
    chunks = Splits(10, is_chunked=True)
    assert np.diff(chunks.list_bounds(101)).tolist() == [11] * 9 + [2]
    assert np.diff(chunks.list_bounds(25)).tolist() == [3] * 8 + [1]


def test_another_programs_permutation_can_be_given():
    order = np.random.RandomState(2020).permutation(260)
    seeded = inception_score(LOGITS, Splits(10, seed=2020)).value
    assert inception_score(LOGITS, Splits(10), order).value == seeded


def test_a_constant_for_all_classes_changes_nothing_and_no_probability_overflows():
    moved = inception_score(LOGITS + 1e4, Splits(10)).value
    assert moved == pytest.approx(inception_score(LOGITS, Splits(10)).value, rel=1e-9)


def test_the_interval_is_the_jackknife_by_definition():
    owners = np.arange(260) % 10
    left_out = [inception_score(LOGITS[owners != i]).value for i in range(10)]
    value = inception_score(LOGITS).value
    bias, deviation = estimate_score_interval(LOGITS, value, 10)
    assert bias == pytest.approx(9 * (np.mean(left_out) - value), rel=1e-9)
    expected = np.sqrt(9 / 10 * np.square(left_out - np.mean(left_out)).sum())
    assert deviation == pytest.approx(expected, rel=1e-9)
    # Ten splits of 26 are biased further down than one of 260.
    split = inception_score(LOGITS, Splits(10)).value
    assert estimate_score_interval(LOGITS, split, 10).bias < bias < 0


def test_too_few_images_and_broken_logits_are_refused():
    with pytest.raises(DataError, match=r"4 images were to be split into 10.*--is-splits 1"):
        inception_score(LOGITS[:4], Splits(10))
    with pytest.raises(DataError, match="NaN or infinite"):
        inception_score(np.where(np.arange(20) == 3, np.nan, LOGITS))
