"""Batch normalisation against NumPy written from algorithm 1 and the formulas of arXiv:1502.03167,
in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.nn.norm import BatchNorm

EPSILON = 1e-3
RNG = np.random.default_rng(0)
SHAPES = {"fully connected": (12, 5), "convolutional": (6, 4, 3, 5)}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def example(shape):
    x = RNG.normal(1.5, 2.0, shape)
    return x, RNG.normal(1, 0.3, shape[-1]), RNG.normal(0, 1, shape[-1]), RNG.normal(size=shape)


def algorithm_1(x, gamma, beta):
    """Mini-batch mean and variance over m (fully connected) or m * p * q values (convolutional),
    then scale and shift.
    """
    values = x.reshape(-1, x.shape[-1])
    mean = values.sum(0) / len(values)
    variance = ((values - mean) ** 2).sum(0) / len(values)
    normalised = (x - mean) / np.sqrt(variance + EPSILON)
    return gamma * normalised + beta, mean, variance


def apply(x, gamma, beta, module=None, stats=None):
    module = module or BatchNorm(epsilon=EPSILON)
    channels = x.shape[-1]
    stats = stats or {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
    variables = {"params": {"scale": gamma, "bias": beta}, "batch_stats": stats}
    y, updated = module.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    return y, updated["batch_stats"]


@shapes
def test_the_batch_norm_forward_pass_matches_algorithm_1(x64, shape):
    x, gamma, beta, _ = example(shape)
    np.testing.assert_allclose(
        apply(x, gamma, beta)[0], algorithm_1(x, gamma, beta)[0], rtol=0, atol=1e-10
    )


def gradients(norm, x, gamma, beta, dy):
    return jax.grad(lambda *inputs: (norm(*inputs) * dy).sum(), argnums=(0, 1, 2))(
        *map(jnp.asarray, (x, gamma, beta))
    )


def ours(x, gamma, beta):
    return apply(x, gamma, beta)[0]


def statistics_held_constant(x, gamma, beta):
    """The mutilated form that the paper warns of: mean and variance taken out of the gradient."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = jax.lax.stop_gradient((x.mean(axes), x.var(axes)))
    return gamma * (x - mean) / jnp.sqrt(variance + EPSILON) + beta


def papers_gradients(x, gamma, beta, dy):
    """The chain rule of section 3, written out."""
    flat, d = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    m = len(flat)
    _, mean, variance = algorithm_1(x, gamma, beta)
    normalised = (flat - mean) / np.sqrt(variance + EPSILON)
    d_normalised = d * gamma
    d_variance = (d_normalised * (flat - mean)).sum(0) * -0.5 * (variance + EPSILON) ** -1.5
    d_mean = (-d_normalised / np.sqrt(variance + EPSILON)).sum(0) + d_variance * (
        -2 * (flat - mean)
    ).sum(0) / m
    dx = (
        d_normalised / np.sqrt(variance + EPSILON) + d_variance * 2 * (flat - mean) / m + d_mean / m
    )
    return dx.reshape(x.shape), (d * normalised).sum(0), d.sum(0)


def matches_the_paper(norm, shape):
    x, gamma, beta, dy = example(shape)
    found, wanted = gradients(norm, x, gamma, beta, dy), papers_gradients(x, gamma, beta, dy)
    return all(np.abs(a - b).max() < 1e-10 for a, b in zip(found, wanted, strict=True))


@shapes
def test_batch_norm_gradients_match_the_papers_formulas(x64, shape):
    assert matches_the_paper(ours, shape)


@shapes
def test_the_gradient_check_detects_statistics_held_constant(x64, shape):
    assert not matches_the_paper(statistics_held_constant, shape)


@shapes
def test_batch_norm_gradients_match_finite_differences(x64, shape):
    x, gamma, beta, dy = example(shape)
    found = gradients(ours, x, gamma, beta, dy)
    for argument, gradient in enumerate(found):
        direction = RNG.normal(size=gradient.shape)
        h = 1e-5
        sides = []
        for sign in (1, -1):
            inputs = [x, gamma, beta]
            inputs[argument] = inputs[argument] + sign * h * direction
            sides.append(float((ours(*inputs) * dy).sum()))
        assert abs((sides[0] - sides[1]) / (2 * h) - float((gradient * direction).sum())) < 1e-6


@shapes
def test_batch_norm_input_gradients_sum_to_zero_over_a_batch(x64, shape):
    x, gamma, beta, dy = example(shape)
    dx = gradients(ours, x, gamma, beta, dy)[0]
    assert np.abs(dx.reshape(-1, shape[-1]).sum(0)).max() < 1e-12


@shapes
def test_gamma_and_beta_can_undo_batch_norm(x64, shape):
    x, *_ = example(shape)
    _, mean, variance = algorithm_1(x, 1, 0)
    np.testing.assert_allclose(ours(x, np.sqrt(variance + EPSILON), mean), x, rtol=0, atol=1e-10)


def test_batch_norm_is_accurate_in_float32_at_a_mean_of_100_deviations():
    x = RNG.normal(100, 1, (64, 8, 8, 4)).astype(np.float32)
    wanted, *_ = algorithm_1(x.astype(np.float64), 1, 0)
    np.testing.assert_allclose(apply(x, jnp.ones(4), jnp.zeros(4))[0], wanted, atol=2e-5)


def test_batch_norm_keeps_the_variance_in_float32_at_a_mean_of_10000_deviations():
    x = RNG.normal(100, 0.01, (64, 8, 8, 4)).astype(np.float32)
    y = apply(x, jnp.ones(4), jnp.zeros(4), BatchNorm(epsilon=1e-8))[0]
    np.testing.assert_allclose(np.std(np.asarray(y, np.float64), axis=(0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize(("kind", "ddof"), [("biased", 0), ("unbiased", 1)])
def test_running_statistics_are_moving_averages_of_the_batch_statistics(x64, kind, ddof):
    x, gamma, beta, _ = example((6, 4, 3, 5))
    _, stats = apply(x, gamma, beta, BatchNorm(decay=0.8, running_variance=kind))
    np.testing.assert_allclose(stats["mean"], 0.2 * x.mean((0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(stats["var"], 0.8 + 0.2 * x.var((0, 1, 2), ddof=ddof), atol=1e-12)


def test_batch_norm_normalises_groups_separately_and_averages_their_statistics(x64):
    x, gamma, beta, _ = example((12, 4, 3, 5))
    y, stats = apply(x, gamma, beta, BatchNorm(examples_per_group=4, decay=0.0, epsilon=EPSILON))
    parts = [
        apply(part, gamma, beta, BatchNorm(decay=0.0, epsilon=EPSILON)) for part in np.split(x, 3)
    ]
    np.testing.assert_allclose(y, np.concatenate([part for part, _ in parts]), atol=1e-12)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            stats[name], np.mean([part_stats[name] for _, part_stats in parts], 0), atol=1e-12
        )


def test_batch_norm_evaluation_uses_the_running_statistics(x64):
    x, gamma, beta, _ = example((6, 5))
    variables = {
        "params": {"scale": gamma, "bias": beta},
        "batch_stats": {"mean": jnp.full(5, 2.0), "var": jnp.full(5, 9.0)},
    }
    y = BatchNorm(epsilon=EPSILON).apply(variables, jnp.asarray(x), train=False)
    np.testing.assert_allclose(y, gamma * (x - 2) / np.sqrt(9 + EPSILON) + beta, atol=1e-12)


def test_batch_norm_normalises_bfloat16_in_float32():
    x = jnp.asarray(RNG.normal(50, 1, (64, 8, 8, 4)), jnp.bfloat16)
    y, stats = apply(x, jnp.ones(4), jnp.zeros(4), BatchNorm(decay=0.0, running_variance="biased"))
    assert y.dtype == jnp.bfloat16
    assert stats["var"].dtype == jnp.float32
    np.testing.assert_allclose(stats["var"], np.asarray(x, np.float64).var((0, 1, 2)), rtol=1e-4)


def test_batch_norm_refuses_a_batch_that_its_groups_do_not_divide():
    with pytest.raises(ValueError, match="over 5 examples cannot split a batch of 12"):
        apply(
            np.ones((12, 4), np.float32), jnp.ones(4), jnp.zeros(4), BatchNorm(examples_per_group=5)
        )


def test_batch_norm_refuses_training_without_mutable_statistics():
    module = BatchNorm()
    variables = module.init(jax.random.key(0), jnp.ones((2, 3)), train=False)
    with pytest.raises(ValueError, match=r"mutable=\['batch_stats'\]"):
        module.apply(variables, jnp.ones((2, 3)), train=True)


def test_batch_norm_without_scale_has_no_gamma():
    variables = BatchNorm(use_scale=False).init(jax.random.key(0), jnp.ones((2, 3)), train=False)
    assert set(variables["params"]) == {"bias"}


@pytest.mark.slow
def test_per_activation_norm_normalises_each_position_over_the_examples_alone(x64):
    """Treats each position of each channel as a unit of a fully connected layer."""
    x = RNG.normal(1.5, 2.0, (12, 4, 3, 5))
    gamma, beta = RNG.normal(1, 0.3, (4, 3, 5)), RNG.normal(0, 1, (4, 3, 5))

    def flat(values):
        return values.reshape(*values.shape[:-3], -1)

    for group in (0, 4):
        options = {"epsilon": EPSILON, "examples_per_group": group, "decay": 0.5}
        stats = {"mean": jnp.zeros((4, 3, 5)), "var": jnp.ones((4, 3, 5))}
        found, running = apply(x, gamma, beta, BatchNorm(**options, per_activation=True), stats)
        flat_stats = {"mean": jnp.zeros(60), "var": jnp.ones(60)}
        expected, expected_running = apply(
            flat(x), flat(gamma), flat(beta), BatchNorm(**options), flat_stats
        )
        np.testing.assert_allclose(flat(found), expected, atol=1e-12)
        for name in running:
            np.testing.assert_allclose(flat(running[name]), expected_running[name], atol=1e-12)
        evaluated = BatchNorm(**options, per_activation=True).apply(
            {"params": {"scale": gamma, "bias": beta}, "batch_stats": running},
            jnp.asarray(x),
            train=False,
        )
        by_hand = (x - running["mean"]) / np.sqrt(running["var"] + EPSILON) * gamma + beta
        np.testing.assert_allclose(evaluated, by_hand, atol=1e-12)


@shapes
def test_frozen_batch_norm_uses_and_keeps_its_statistics_in_training(x64, shape):
    x, gamma, beta, _ = example(shape)
    stats = {
        "mean": jnp.asarray(RNG.normal(size=shape[-1])),
        "var": jnp.asarray(RNG.uniform(0.5, 2, shape[-1])),
    }
    found, kept = apply(x, gamma, beta, BatchNorm(epsilon=EPSILON, frozen=True), stats)
    np.testing.assert_allclose(
        found, (x - stats["mean"]) / np.sqrt(stats["var"] + EPSILON) * gamma + beta, atol=1e-12
    )
    for name in stats:
        np.testing.assert_array_equal(kept[name], stats[name])


MASK = np.array([True, False, True, True, True, False, True, True])


def masked_example():
    """Eight examples of which two do not count, one of them full of NaN."""
    x = RNG.normal(1.5, 2.0, (8, 3, 2, 5))
    x[1] = np.nan
    return x, RNG.normal(1, 0.3, 5), RNG.normal(0, 1, 5)


def statistics(x, module, mask=None):
    stats = {"mean": jnp.full(5, 0.5), "var": jnp.full(5, 2.0)}
    variables = {"params": {"scale": jnp.ones(5), "bias": jnp.zeros(5)}, "batch_stats": stats}
    y, updated = module.apply(
        variables, jnp.asarray(x), train=True, mask=mask, mutable=["batch_stats"]
    )
    return np.asarray(y), jax.device_get(updated["batch_stats"])


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("running_variance", ["biased", "unbiased"])
def test_masked_batch_norm_equals_that_of_a_batch_without_the_masked_examples(
    x64, passes, running_variance
):
    x, *_ = masked_example()
    module = BatchNorm(epsilon=EPSILON, passes=passes, running_variance=running_variance)
    y, stats = statistics(x, module, jnp.asarray(MASK))
    wanted, wanted_stats = statistics(x[MASK], module)
    np.testing.assert_allclose(y[MASK], wanted, rtol=0, atol=1e-12)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], wanted_stats[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("passes", [1, 2])
def test_masked_groups_are_normalised_separately_and_an_empty_group_adds_no_statistics(x64, passes):
    x, *_ = masked_example()
    mask = MASK & (np.arange(8) // 2 != 3)  # of the last group nobody counts
    y, stats = statistics(
        x, BatchNorm(epsilon=EPSILON, passes=passes, examples_per_group=2), jnp.asarray(mask)
    )
    alone = [
        statistics(
            x[2 * i : 2 * i + 2][mask[2 * i : 2 * i + 2]], BatchNorm(epsilon=EPSILON, passes=passes)
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(
        y[mask], np.concatenate([one for one, _ in alone]), rtol=0, atol=1e-12
    )
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            stats[name], np.mean([own[name] for _, own in alone], 0), rtol=0, atol=1e-12
        )
    assert np.isfinite(y[6:]).all()


def test_running_statistics_stay_where_every_example_is_masked(x64):
    _, stats = statistics(np.ones((8, 3, 2, 5)), BatchNorm(), jnp.zeros(8, bool))
    np.testing.assert_array_equal(stats["mean"], 0.5)
    np.testing.assert_array_equal(stats["var"], 2.0)


@pytest.mark.parametrize("passes", [1, 2])
def test_masked_batch_norm_gradients_match_finite_differences(x64, passes):
    x, gamma, beta = masked_example()
    x[1] = 3.0
    weights = RNG.normal(size=x.shape) * MASK[:, None, None, None]
    stats = {"mean": jnp.zeros(5), "var": jnp.ones(5)}

    def loss(x, gamma, beta):
        module = BatchNorm(epsilon=EPSILON, passes=passes)
        variables = {"params": {"scale": gamma, "bias": beta}, "batch_stats": stats}
        y, _ = module.apply(
            variables, x, train=True, mask=jnp.asarray(MASK), mutable=["batch_stats"]
        )
        return (y * weights).sum()

    inputs = [jnp.asarray(value) for value in (x, gamma, beta)]
    found = jax.grad(loss, argnums=(0, 1, 2))(*inputs)
    np.testing.assert_array_equal(found[0][~MASK], 0)
    for argument, gradient in enumerate(found):
        direction, h = RNG.normal(size=gradient.shape), 1e-5
        sides = [
            loss(
                *(
                    value + sign * h * direction if i == argument else value
                    for i, value in enumerate(inputs)
                )
            )
            for sign in (1, -1)
        ]
        assert float(sides[0] - sides[1]) / (2 * h) == pytest.approx(
            float((gradient * direction).sum()), abs=1e-6
        )
