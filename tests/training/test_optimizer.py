"""The optimizer against NumPy written from TensorFlow 1's update rules, over 40 steps of changing
gradients and rates.

Optax computes schedules in float32, hence 1e-6; what has no schedule is held to 1e-12.
"""

from fractions import Fraction
from math import ceil, floor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inception_jax.training.objective import add_l2_gradient, cross_entropy, mask_kernels
from inception_jax.training.optimizer import ema_update, make_optimizer, make_schedule
from tests.training.record_tensorflow import EPSILONS, FILE

RNG = np.random.default_rng(0)
STEPS = 40
# Three decades of gradient sizes, so that the place of epsilon matters.
GRADIENTS = RNG.normal(size=(STEPS, 6)) * 10.0 ** np.linspace(-2, 1, 6)
RATES = [0.05 * 0.94 ** (n // 7) for n in range(STEPS)]


def run(transformation, start, gradients=GRADIENTS):
    params, state = (
        {"kernel": jnp.asarray(start)},
        transformation.init({"kernel": jnp.asarray(start)}),
    )
    for gradient in gradients:
        updates, state = transformation.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["kernel"])


def tf1_rmsprop(start, *, decay, momentum, epsilon):
    """tf.compat.v1.train.RMSPropOptimizer: mean square from 1, epsilon inside the root, the rate
    inside the momentum.
    """
    weights, square, velocity = start.copy(), np.ones(6), np.zeros(6)
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        square = decay * square + (1 - decay) * gradient**2
        velocity = momentum * velocity + rate * gradient / np.sqrt(square + epsilon)
        weights = weights - velocity
    return weights


STAIRCASE = {"steps": STEPS, "decay_steps": 7, "decay_rate": 0.94}


@pytest.mark.parametrize("epsilon", [1.0, 1e-3])
def test_rmsprop_matches_tensorflow_1(x64, epsilon):
    start = RNG.normal(size=6)
    rule = make_optimizer(
        "rmsprop",
        make_schedule("exponential", 0.05, **STAIRCASE),
        decay=0.9,
        momentum=0.9,
        epsilon=epsilon,
    )
    np.testing.assert_allclose(
        run(rule, start), tf1_rmsprop(start, decay=0.9, momentum=0.9, epsilon=epsilon), atol=1e-6
    )


def test_rmsprop_with_optax_defaults_differs_from_tensorflow_1(x64):
    start = RNG.normal(size=6)
    defaults = optax.rmsprop(
        make_schedule("exponential", 0.05, **STAIRCASE), decay=0.9, momentum=0.9, eps=1.0
    )
    assert (
        np.abs(
            run(defaults, start) - tf1_rmsprop(start, decay=0.9, momentum=0.9, epsilon=1.0)
        ).max()
        > 0.01
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_with_and_without_nesterov_matches_numpy(x64, nesterov):
    start = RNG.normal(size=6)
    weights, velocity = start.copy(), np.zeros(6)
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        velocity = 0.9 * velocity + gradient
        weights = weights - rate * (gradient + 0.9 * velocity if nesterov else velocity)
    rule = make_optimizer(
        "momentum", make_schedule("exponential", 0.05, **STAIRCASE), momentum=0.9, nesterov=nesterov
    )
    np.testing.assert_allclose(run(rule, start), weights, atol=1e-6)


def test_the_l2_gradient_is_added_before_clipping(x64):
    start, gradient = RNG.normal(size=6), 10 * RNG.normal(size=6)
    rule = make_optimizer("momentum", 0.1, momentum=0.0, clip_norm=2.0)
    total = gradient + 0.5 * start
    whole = add_l2_gradient({"kernel": gradient}, {"kernel": start}, 0.5)["kernel"]
    np.testing.assert_allclose(
        run(rule, start, [whole]), start - 0.1 * total * 2.0 / np.linalg.norm(total), atol=1e-12
    )


def test_clipping_leaves_small_gradients_unchanged(x64):
    start, gradient = RNG.normal(size=6), 0.1 * RNG.normal(size=6)
    rule = make_optimizer("momentum", 0.1, momentum=0.0, clip_norm=2.0)
    np.testing.assert_allclose(run(rule, start, [gradient]), start - 0.1 * gradient, atol=1e-12)


def test_l2_applies_to_kernels_only():
    params = {
        "conv": {"kernel": 1, "depthwise_kernel": 1, "bias": 1, "norm": {"scale": 1, "bias": 1}}
    }
    assert mask_kernels(params) == {
        "conv": {
            "kernel": True,
            "depthwise_kernel": True,
            "bias": False,
            "norm": {"scale": False, "bias": False},
        }
    }


def test_exponential_decay_follows_its_formula_with_and_without_a_staircase():
    rate = make_schedule("exponential", 0.045, steps=100, decay_steps=10, decay_rate=0.94)
    smooth = make_schedule(
        "exponential", 0.045, steps=100, decay_steps=10, decay_rate=0.94, staircase=False
    )
    for step in (0, 9, 10, 57, 99):
        assert float(rate(step)) == pytest.approx(0.045 * 0.94 ** (step // 10), rel=1e-6)
        assert float(smooth(step)) == pytest.approx(0.045 * 0.94 ** (step / 10), rel=1e-6)


def test_the_learning_rate_of_the_tpu_recipe_ends_at_0_0206():
    """Cloud TPU Inception-v3: 0.66 x 0.94 every 3 epochs of 1,251 steps; 0.0206 at step 213,000."""
    rate = make_schedule("exponential", 0.66, steps=213_000, decay_steps=3753, decay_rate=0.94)
    assert float(rate(213_000)) == pytest.approx(0.0206, abs=5e-5)


def test_the_cosine_schedule_warms_up_and_decays_to_zero():
    rate = make_schedule("cosine", 0.4, steps=110, warmup_steps=10)
    assert [float(rate(n)) for n in (0, 5, 10)] == pytest.approx([0, 0.2, 0.4])
    assert float(rate(60)) == pytest.approx(0.2)
    assert float(rate(110)) == pytest.approx(0, abs=1e-9)


def test_the_moving_average_matches_tensorflows_formula(x64):
    """tf.train.ExponentialMovingAverage(decay, num_updates): decay min(d, (1 + n) / (10 + n)),
    from the first value.
    """
    average = shadow = RNG.normal(size=3)
    for n in range(STEPS):
        value = RNG.normal(size=3)
        shadow_decay = min(0.7, (1 + n) / (10 + n))
        shadow = shadow_decay * shadow + (1 - shadow_decay) * value
        average = ema_update(average, value, decay=0.7, step=jnp.asarray(n))
    np.testing.assert_allclose(average, shadow, atol=1e-12)


@pytest.mark.parametrize(("decay", "capped"), [(0.995, 1790), (0.9997, 29_990), (0.9999, 89_990)])
def test_the_ramp_of_the_moving_average_ends_at_the_expected_step(x64, decay, capped):
    moved = [
        float(ema_update(jnp.ones(()), jnp.zeros(()), decay=decay, step=jnp.asarray(n)))
        for n in (capped - 10, capped, 10 * capped)
    ]
    assert moved[0] < decay
    assert moved[1:] == pytest.approx([decay, decay], abs=1e-12)


def test_optimizer_updates_are_the_same_under_jit():
    rule = make_optimizer("rmsprop", 0.1, clip_norm=2.0)
    start = RNG.normal(size=6).astype(np.float32)
    params = {"kernel": jnp.asarray(start)}
    eager, _ = rule.update({"kernel": jnp.ones(6)}, rule.init(params), params)
    compiled, _ = jax.jit(rule.update)({"kernel": jnp.ones(6)}, rule.init(params), params)
    np.testing.assert_allclose(eager["kernel"], compiled["kernel"], rtol=1e-6)


RECORDED = np.load(FILE)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_clipped_rmsprop_with_staircase_decay_matches_the_tensorflow_recording(x64, epsilon):
    rate = make_schedule("exponential", 0.05, **STAIRCASE)
    np.testing.assert_allclose(
        [rate(step) for step in range(STEPS)], RECORDED[f"rates_{epsilon}"], atol=1e-8
    )
    rule = make_optimizer("rmsprop", rate, decay=0.9, momentum=0.9, epsilon=epsilon, clip_norm=2.0)
    for steps in (1, 8, STEPS):
        weights = run(rule, RECORDED["start"], RECORDED["gradients"][:steps])
        np.testing.assert_allclose(weights, RECORDED[f"rmsprop_{epsilon}"][steps - 1], rtol=1e-6)


def test_label_smoothing_matches_the_tensorflow_recording(x64):
    losses = cross_entropy(
        jnp.asarray(RECORDED["logits"]), jnp.asarray(RECORDED["labels"]), label_smoothing=0.1
    )
    np.testing.assert_allclose(losses, RECORDED["smoothed"], atol=1e-6)


def test_the_moving_average_with_its_ramp_matches_the_tensorflow_recording(x64):
    average = jnp.asarray(RECORDED["start"])
    for step, gradient in enumerate(RECORDED["gradients"]):
        average = ema_update(
            average, RECORDED["start"] + gradient, decay=0.999, step=jnp.asarray(step)
        )
        np.testing.assert_allclose(average, RECORDED["followed"][step], atol=1e-6)


def test_a_floor_ends_the_decay_of_the_learning_rate():
    rate = make_schedule(
        "exponential", 0.66, steps=1000, decay_steps=10, decay_rate=0.5, floor=0.01
    )
    assert float(rate(10)) == pytest.approx(0.33)
    assert float(rate(999)) == pytest.approx(0.0066)


def test_the_piecewise_schedule_drops_at_its_boundaries():
    rate = make_schedule(
        "piecewise", 0.1, steps=90, boundaries=[30, 60], decay_rate=0.1, warmup_steps=5
    )
    assert [round(float(rate(step)), 6) for step in (0, 5, 29, 31, 59, 61)] == [
        0.0,
        0.1,
        0.1,
        0.01,
        0.01,
        0.001,
    ]


def test_the_polynomial_schedule_matches_caffe():
    """base_lr * (1 - iter / max_iter)^power, of the quick solver of bvlc_googlenet."""
    rate = make_schedule("polynomial", 0.01, steps=2_400_000, power=0.5)
    for step in (0, 600_000, 2_399_999):
        assert float(rate(step)) == pytest.approx(0.01 * (1 - step / 2_400_000) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("warmup", [0, 2.25])
def test_a_period_that_is_a_fraction_of_a_step_is_kept_over_a_whole_run(warmup):
    """100 examples in batches of 67, a decay in each epoch: rounded to whole steps the last rate
    is 130 times too low after 60 epochs.
    """
    rate = make_schedule(
        "exponential", 0.045, steps=90, decay_steps=100 / 67, decay_rate=0.85, warmup_steps=warmup
    )
    found = np.array([rate(step) for step in range(90)])
    drops = [max(floor((step - Fraction(warmup)) * Fraction(67, 100)), 0) for step in range(90)]
    wanted = [
        0.045 * 0.85**count * (min(step / warmup, 1) if warmup else 1)
        for step, count in enumerate(drops)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_drops_of_a_long_staircase_come_at_their_exact_steps():
    """A quotient in float32 rounds up to the next whole number a step before it is reached, or
    down where it is.
    """
    period = 1_281_167 / 341.37
    rate = jax.jit(
        make_schedule("exponential", 1.0, steps=3_000_000, decay_steps=period, decay_rate=0.99)
    )
    for drop in (1, 2, 100, 777, 799):
        step = ceil(drop * period)
        assert [float(rate(jnp.int32(at))) for at in (step - 1, step)] == pytest.approx(
            [0.99 ** (drop - 1), 0.99**drop], rel=1e-3
        )


@pytest.mark.parametrize("warmup", [0, 10])
def test_whole_periods_give_the_bits_of_optax(warmup):
    rate = make_schedule(
        "exponential", 0.045, steps=300, decay_steps=37, decay_rate=0.94, warmup_steps=warmup
    )
    peer = optax.exponential_decay(0.045, 37, 0.94, staircase=True)
    if warmup:
        peer = optax.join_schedules([optax.linear_schedule(0.0, 0.045, warmup), peer], [warmup])
    steps = jnp.arange(300)
    np.testing.assert_array_equal(jax.vmap(rate)(steps), jax.vmap(peer)(steps))


def test_two_boundaries_within_one_step_both_count():
    rate = make_schedule("piecewise", 0.1, steps=10, boundaries=[2.2, 2.9, 5], decay_rate=0.5)
    assert [float(rate(step)) for step in range(7)] == pytest.approx(
        [0.1, 0.1, 0.1, 0.025, 0.025, 0.0125, 0.0125]
    )
