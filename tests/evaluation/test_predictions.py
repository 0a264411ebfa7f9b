import csv
from math import isnan

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.data.batches import Batch
from inception_jax.data.source import DataError
from inception_jax.evaluation.confidence import wilson_half_width
from inception_jax.evaluation.predictions import (
    Predictions,
    append_result,
    average_predictions,
    compute_calibration_error,
    compute_metrics,
    count_confusions,
    predict_all,
    score_classes,
)

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.ones(10), (21, 4))  # of 21 examples, 4 views each
LABELS = RNG.integers(0, 10, 21)


def batches(size, views=4, count=21 * 4):
    for start in range(0, count, size):
        position = np.arange(start, start + size)
        real = position < count
        example = np.where(real, position, 0) // views
        yield Batch(
            position[:, None, None, None], LABELS[example] * real, real.astype(np.float32), position
        )


def step(variables, batch):
    rows = np.minimum(batch.image[:, 0, 0, 0], 83)
    return jnp.log(jnp.asarray(PROBABILITIES.reshape(84, 10)[rows]))


@pytest.mark.parametrize("size", [1, 5, 8, 84, 100])
def test_predictions_average_the_views_of_an_example_at_any_batch_size(size):
    found = predict_all(step, {}, batches(size), examples=21, crops=4, gather=lambda tree: tree)
    np.testing.assert_allclose(found.probabilities, PROBABILITIES.mean(1), rtol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.seen.all()


def test_predictions_require_each_view_exactly_once():
    short = list(batches(8))[:-2]
    with pytest.raises(AssertionError, match="example 18 came 0 times, not 4"):
        predict_all(step, {}, short, examples=21, crops=4, gather=lambda tree: tree)
    twice = [*batches(84), next(batches(84))]
    with pytest.raises(AssertionError, match="example 0 came 8 times, not 4"):
        predict_all(step, {}, twice, examples=21, crops=4, gather=lambda tree: tree)


ALONE = Predictions(PROBABILITIES[:, 0], LABELS, np.ones(21, bool))


def test_an_ensemble_predicts_the_mean_of_its_members():
    other = Predictions(PROBABILITIES[:, 1], LABELS, np.ones(21, bool))
    np.testing.assert_array_equal(average_predictions([ALONE]).probabilities, ALONE.probabilities)
    np.testing.assert_allclose(
        average_predictions([ALONE, other]).probabilities, PROBABILITIES[:, :2].mean(1)
    )


@pytest.mark.parametrize(
    "other",
    [
        Predictions(PROBABILITIES[:20, 0], LABELS[:20], np.ones(20, bool)),
        Predictions(PROBABILITIES[:, 0, :9], LABELS, np.ones(21, bool)),
        Predictions(PROBABILITIES[:, 0], (LABELS + 1) % 10, np.ones(21, bool)),
    ],
)
def test_an_ensemble_refuses_members_with_other_examples_classes_or_labels(other):
    with pytest.raises(DataError, match="member 0 scored 21 examples of 10 classes, member 1"):
        average_predictions([ALONE, other])


def test_top1_top5_and_nll_match_numpy():
    found = compute_metrics(ALONE)
    order = np.argsort(-ALONE.probabilities, axis=-1, kind="stable")
    assert found["top1"] == pytest.approx((order[:, 0] == LABELS).mean())
    assert found["top5"] == pytest.approx((order[:, :5] == LABELS[:, None]).any(-1).mean())
    assert found["nll"] == pytest.approx(-np.log(ALONE.probabilities[np.arange(21), LABELS]).mean())
    assert (found["count"], found["skipped"]) == (21, 0)


def test_the_accuracy_interval_matches_wilsons_score_interval():
    """Compares with statsmodels' proportion_confint: 0.9498 to 0.9822 for 0.97 of 450."""
    assert 2 * wilson_half_width(0.97, 450) == pytest.approx(0.98215 - 0.94982, abs=1e-4)
    assert wilson_half_width(1.0, 10) > 0.1


def test_calibration_error_is_zero_for_calibrated_predictions_and_not_for_overconfident_ones():
    sure = np.eye(2)[np.zeros(100, int)]
    assert compute_calibration_error(sure, np.arange(100) < 70) == pytest.approx(0.3)
    honest = np.tile([0.7, 0.3], (100, 1))
    assert compute_calibration_error(honest, np.arange(100) < 70) == pytest.approx(0, abs=1e-9)


def test_per_class_accuracy_and_mistakes_agree_with_the_confusion_matrix():
    table = count_confusions(ALONE)
    assert table.sum() == 21
    names = [f"class {i}" for i in range(10)]
    rows = score_classes(ALONE, names)
    assert [row["top1"] for row in rows if row["count"]] == sorted(
        row["top1"] for row in rows if row["count"]
    )
    for row in rows:
        i = names.index(row["class"])
        assert row["count"] == (i == LABELS).sum()
        if row["times"]:
            assert (
                table[i, names.index(row["taken_for"])]
                == row["times"]
                == max(np.delete(table[i], i))
            )


def test_results_are_appended_to_a_csv_with_timms_columns(tmp_path):
    file = tmp_path / "results.csv"
    for top1 in (70.1, 71.2):
        append_result(file, {"model": "inception_v3", "img_size": 299, "top1": top1, "crops": 144})
    rows = list(csv.DictReader(file.open()))
    assert [row["top1"] for row in rows] == ["70.1", "71.2"]
    assert list(rows[0])[:4] == ["model", "img_size", "top1", "top1_err"]
    with pytest.raises(DataError, match="no column colour"):
        append_result(file, {"model": "x", "colour": "blue"})


def log_softmax(logits):
    return np.asarray(jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)))


def test_the_likelihood_of_a_class_whose_probability_underflows_is_exact():
    """The logits differ by up to 3,000: in float64 too such a probability is 0, and clamped at
    1e-300 it costs 690.8 nats.
    """
    logits = np.linspace(0, 3000, 84 * 10).reshape(84, 10)[:, ::-1] * np.float64(
        [1, 0, 2, 1, 5, 1, 0, 3, 1, 4]
    )
    label = np.arange(21) % 10

    def step(variables, batch):
        return log_softmax(logits[np.minimum(batch.image[:, 0, 0, 0], 83)])

    rows = Batch(
        np.arange(84)[:, None, None, None],
        np.repeat(label, 4).astype(np.int32),
        np.ones(84, np.float32),
        np.arange(84),
    )
    found = predict_all(step, {}, [rows], examples=21, crops=4, gather=lambda tree: tree)
    exact = logits - logits.max(-1, keepdims=True)
    exact = (exact - np.log(np.exp(exact).sum(-1, keepdims=True))).reshape(21, 4, 10)[
        np.arange(21), :, label
    ]
    wanted = -(np.logaddexp.reduce(exact, 1) - np.log(4))
    assert wanted.max() > 1000
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-5)
    assert compute_metrics(found)["nll"] == pytest.approx(wanted.mean(), rel=1e-5)
    both = average_predictions([found, found])
    np.testing.assert_allclose(both.losses, wanted, rtol=1e-5)


def test_figures_of_predictions_that_are_not_numbers_are_undefined():
    logs = np.full((21, 10), np.nan)
    found = Predictions(np.exp(logs), LABELS, np.ones(21, bool), logs[:, 0])
    results = compute_metrics(found)
    assert isnan(results["nll"])
    assert isnan(results["calibration_error"])
    assert results["top1"] == 0
