import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.data.batches import Batch
from inception_jax.evaluation.predictions import Predictions
from inception_jax.evaluation.scoring import add_sums, divide_by_count, score_batches
from inception_jax.evaluation.worst import find_worst_examples
from inception_jax.training.objective import cross_entropy, sum_metrics

RNG = np.random.default_rng(0)
LOGITS, LABELS = (
    RNG.normal(size=(21, 10)).astype(np.float32),
    RNG.integers(0, 10, 21).astype(np.int32),
)


def batches(size):
    for start in range(0, 21, size):
        rows = np.arange(start, start + size)
        real = rows < 21
        ids = np.where(real, rows, 0)
        yield Batch(
            np.full((size, 2, 2, 3), ids[:, None, None, None], np.uint8),
            LABELS[ids] * real,
            real.astype(np.float32),
            rows,
        )


def step(variables, batch):
    """A "network" that knows the logits of each example by the number painted on it."""
    logits, label = jnp.asarray(LOGITS)[batch.image[:, 0, 0, 0]], jnp.asarray(batch.label)
    return sum_metrics(logits, label, jnp.asarray(batch.weight), cross_entropy(logits, label))


@pytest.mark.parametrize("size", [1, 4, 8, 64])
def test_evaluation_metrics_match_numpy_at_every_batch_size(size):
    results = score_batches(step, {}, batches(size), examples=21)
    ranks = (LOGITS[np.arange(21), LABELS][:, None] <= LOGITS).sum(-1)
    assert results["top1"] == pytest.approx((ranks <= 1).mean())
    assert results["top5"] == pytest.approx((ranks <= 5).mean())
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    assert results["loss"] == pytest.approx(-log_p[np.arange(21), LABELS].mean(), rel=1e-6)
    assert results["count"] == 21


def test_evaluation_fails_if_an_example_is_missing():
    with pytest.raises(AssertionError, match="saw 16 of 21"):
        score_batches(
            step, {}, (batch for batch, _ in zip(batches(8), range(2), strict=False)), examples=21
        )


def test_evaluation_sums_are_added_in_double_precision():
    total = add_sums({"loss": np.float32(0.1), "count": np.float32(1)} for _ in range(100_000))
    assert divide_by_count(total)["loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_worst_examples_have_the_largest_losses_and_exclude_unread_examples():
    probabilities = np.exp(np.float64(LOGITS)) / np.exp(np.float64(LOGITS)).sum(-1, keepdims=True)
    found = Predictions(probabilities, LABELS, np.arange(21) != 20)
    worst = find_worst_examples(
        found, lambda index: np.full((2, 2, 3), index, np.uint8), tuple("abcdefghij"), most=6
    )
    losses = np.asarray(cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS)))
    order = np.argsort(-losses[:20], kind="stable")[:6]  # the last one could not be read
    np.testing.assert_array_equal(worst["image"][:, 0, 0, 0], order)
    np.testing.assert_allclose(worst["loss"], losses[order], rtol=1e-6)
    np.testing.assert_array_equal(worst["prediction"], LOGITS[order].argmax(-1))
    assert worst["confusion"].sum() == 20
    assert np.trace(worst["confusion"]) == (LOGITS[:20].argmax(-1) == LABELS[:20]).sum()
    assert (worst["example"] == 0).all()
