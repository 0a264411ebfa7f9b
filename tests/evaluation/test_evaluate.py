import jax
import numpy as np
import pytest

import inception_jax
from benchmarks.random_variables import variables as invented
from inception_jax.data.source import DataError
from inception_jax.evaluation import evaluate as direct
from inception_jax.nn.network import Network
from inception_jax.spec.vocabulary import Architecture, Linear, global_avg, same, table

NETWORK = Network(
    Architecture(
        "mine", "paper", table(A=same(4, 3), B=global_avg(), C=Linear()), source="", input_size=6
    ),
    num_classes=7,
)
VARIABLES = invented(NETWORK)
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(21, 6, 6, 3)).astype(np.float32), RNG.integers(0, 7, 21)


@pytest.mark.parametrize("size", [1, 8, 21])
def test_evaluate_counts_every_example_once_at_any_batch_size(size, monkeypatch):
    traced = []
    original = direct.log_probability_step
    monkeypatch.setattr(
        direct,
        "log_probability_step",
        lambda *given, **named: traced.append(1) or original(*given, **named),
    )
    pairs = [(IMAGES[i : i + size], LABELS[i : i + size]) for i in range(0, 21, size)]
    found = inception_jax.evaluate(NETWORK, VARIABLES, pairs)
    probabilities = np.asarray(jax.nn.softmax(NETWORK.apply(VARIABLES, IMAGES).logits), np.float64)
    assert found["top1"] == pytest.approx((probabilities.argmax(-1) == LABELS).mean())
    assert found["nll"] == pytest.approx(
        -np.log(probabilities[np.arange(21), LABELS]).mean(), rel=1e-5
    )
    assert found["count"] == 21
    assert len(traced) == 1


def test_evaluate_refuses_no_batches_mismatched_labels_and_growing_batches():
    with pytest.raises(DataError, match="no batches"):
        inception_jax.evaluate(NETWORK, VARIABLES, [])
    with pytest.raises(DataError, match="a batch of 3 images and 2 labels"):
        inception_jax.evaluate(NETWORK, VARIABLES, [(IMAGES[:3], LABELS[:2])])
    with pytest.raises(DataError, match="at most 4"):
        inception_jax.evaluate(
            NETWORK, VARIABLES, [(IMAGES[:4], LABELS[:4]), (IMAGES[:5], LABELS[:5])]
        )
