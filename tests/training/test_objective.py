import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.nn.network import Outputs
from inception_jax.training.objective import classification_loss, cross_entropy, make_top_k_metric

RNG = np.random.default_rng(0)


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_label_smoothing_matches_the_paper(x64, smoothing):
    """(1 - e) H(q, p) + e H(u, p), arXiv:1512.00567 section 7."""
    logits, labels = 3 * RNG.normal(size=(7, 1000)), RNG.integers(0, 1000, 7)
    log_p = np.log(softmax(logits))
    wanted = -(1 - smoothing) * log_p[np.arange(7), labels] - smoothing * log_p.mean(-1)
    np.testing.assert_allclose(
        cross_entropy(jnp.asarray(logits), jnp.asarray(labels), label_smoothing=smoothing),
        wanted,
        atol=1e-12,
    )


def test_the_smallest_loss_with_label_smoothing_is_1_0148_nats(x64):
    """The entropy of the smoothed target at e = 0.1 and 1,000 classes: the best that a network can
    reach.
    """
    best = np.log(np.where(np.arange(1000) == 3, 0.9001, 1e-4))[None]
    assert float(
        cross_entropy(jnp.asarray(best), jnp.array([3]), label_smoothing=0.1)[0]
    ) == pytest.approx(1.0148, abs=5e-5)


def test_the_gradient_of_cross_entropy_is_p_minus_q(x64):
    logits, labels = RNG.normal(size=(2, 10)), jnp.array([3, 7])
    gradient = jax.grad(lambda z: cross_entropy(z, labels, label_smoothing=0.1).sum())(
        jnp.asarray(logits)
    )
    target = 0.9 * np.eye(10)[[3, 7]] + 0.01
    np.testing.assert_allclose(gradient, softmax(logits) - target, atol=1e-12)


@pytest.mark.slow
def test_auxiliary_heads_add_their_weighted_losses(x64):
    logits, labels, weights = (
        RNG.normal(size=(3, 4, 10)),
        jnp.array([1, 2, 3, 4]),
        jnp.array([1.0, 1, 1, 0]),
    )
    main, *aux = jnp.asarray(logits)
    loss, sums = classification_loss(Outputs(main, tuple(aux), {}), labels, weights, aux_weight=0.3)
    each = [np.asarray(cross_entropy(z, labels))[:3] for z in (main, *aux)]
    assert float(loss) == pytest.approx((each[0] + 0.3 * (each[1] + each[2])).mean())
    assert float(sums["count"]) == 3


def test_the_reported_loss_is_of_the_main_classifier_and_the_objective_is_what_is_minimised(x64):
    """Checks that `loss` (`val/loss` in evaluation) has no smoothing and auxiliary heads."""
    main, aux = jnp.asarray(RNG.normal(size=(2, 4, 10)))
    labels, weights = jnp.array([1, 2, 3, 4]), jnp.array([1.0, 1, 1, 0])
    value, sums = classification_loss(
        Outputs(main, (aux,), {}), labels, weights, aux_weight=0.3, label_smoothing=0.1
    )
    log_p = np.log(softmax(np.asarray(main)))
    assert float(sums["loss"]) == pytest.approx(-log_p[np.arange(3), [1, 2, 3]].sum(), rel=1e-12)
    assert float(sums["objective"] / sums["count"]) == pytest.approx(float(value), rel=1e-12)
    assert float(sums["objective"]) > float(sums["loss"]) + 0.1


def test_the_loss_of_blended_images_is_that_of_the_likelier_class(x64):
    logits, shares = (
        jnp.asarray(RNG.normal(size=(2, 3))),
        jnp.array([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]]),
    )
    _, sums = classification_loss(Outputs(logits, (), {}), shares, jnp.ones(2))
    assert float(sums["loss"]) == pytest.approx(
        float(cross_entropy(logits, jnp.array([0, 2])).sum()), rel=1e-12
    )


@pytest.mark.parametrize("k", [1, 5])
def test_top_k_matches_numpys_ranking(k):
    logits, labels = RNG.normal(size=(200, 10)), RNG.integers(0, 10, 200)
    wanted = [label in np.argsort(-row)[:k] for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_array_equal(
        make_top_k_metric(k)(jnp.asarray(logits), jnp.asarray(labels)), wanted
    )


def test_top_k_resolves_ties_to_the_lower_class_as_lax_top_k_does():
    logits = jnp.asarray(RNG.integers(0, 3, (500, 10)), jnp.float32)
    labels = jnp.asarray(RNG.integers(0, 10, 500))
    wanted = (jax.lax.top_k(logits, 5)[1] == labels[:, None]).any(-1)
    np.testing.assert_array_equal(make_top_k_metric(5)(logits, labels), wanted)


def test_top_1_never_counts_examples_with_nan_logits_as_correct():
    logits = jnp.full((3, 10), jnp.nan).at[1, 0].set(1.0)
    assert not make_top_k_metric(1)(logits, jnp.array([0, 0, 5])).any()


def test_cross_entropy_refuses_half_precision_logits():
    with pytest.raises(TypeError, match="at least float32"):
        cross_entropy(jnp.zeros((2, 10), jnp.bfloat16), jnp.zeros(2, jnp.int32))
