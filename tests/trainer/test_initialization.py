"""The initialization from another run takes over what matches, and reports the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.random_variables import variables as make_variables
from inception_jax.config import ConfigError
from inception_jax.nn.network import Network
from inception_jax.spec.vocabulary import Architecture, Linear, global_avg, same, table
from inception_jax.trainer.initialization import load_matching_arrays
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import State


def network(classes, filters=4, name="A"):
    rows = table(**{name: same(filters, 3)}, B=same(6, 1), Pool=global_avg(), Logits=Linear())
    return Network(
        Architecture("mine", "paper", rows, source="", input_size=8), num_classes=classes
    )


def state(seed=1, averaged=True, **options):
    variables = make_variables(network(**options), seed=seed)
    average = jax.tree.map(jnp.copy, dict(variables)) if averaged else {}
    zero = jnp.zeros((), jnp.int32)
    return State(
        zero,
        variables["params"],
        variables["batch_stats"],
        optax.sgd(0.1).init(variables["params"]),
        average,
        zero,
    )


def leaves(tree):
    return {
        "/".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize("averaged", [False, True])
def test_a_network_with_a_new_head_takes_over_all_other_arrays(averaged):
    donor = make_variables(network(10), seed=0)
    before = state(classes=3, averaged=averaged)
    after, report = load_matching_arrays(before, donor)
    assert (
        report.new == report.unused == ["params.Logits.linear.bias", "params.Logits.linear.kernel"]
    )
    assert (
        len(report.loaded) == 2 + 2 * 4
    )  # two kernels, and gamma, beta, mean and variance of two norms
    for name, leaf in leaves(after.params).items():
        source = before.params if name.startswith("Logits") else donor["params"]
        np.testing.assert_array_equal(leaf, leaves(source)[name])
    for name, leaf in leaves(after.batch_stats).items():
        np.testing.assert_array_equal(leaf, leaves(donor["batch_stats"])[name])
    buffers = [
        leaf.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves((after.params, after.batch_stats, after.average))
    ]
    assert len(set(buffers)) == len(buffers)  # the step donates all of them
    if averaged:
        for name, leaf in leaves(after.average["params"]).items():
            np.testing.assert_array_equal(leaf, leaves(after.params)[name])
    assert "new are params.Logits.linear.bias, params.Logits.linear.kernel" in str(report)


def test_a_network_of_the_same_architecture_takes_over_all_arrays():
    donor = make_variables(network(10), seed=0)
    after, report = load_matching_arrays(state(classes=10), donor)
    assert report.new == report.unused == []
    for name, leaf in leaves(after.params).items():
        np.testing.assert_array_equal(leaf, leaves(donor["params"])[name])


def test_arrays_of_another_shape_are_reported_and_a_donor_without_matches_is_refused():
    _, report = load_matching_arrays(
        state(classes=10, filters=8), make_variables(network(10), seed=0)
    )
    assert "params.A.conv_3x3.kernel" in report.new
    assert "params.A.conv_3x3.kernel" in report.unused
    with pytest.raises(
        ConfigError, match="not one of 2 arrays has a name and a shape of this network"
    ):
        load_matching_arrays(
            state(classes=10),
            {"params": {"C": {"kernel": np.zeros((3, 3))}, "D": {"kernel": np.zeros(3)}}},
        )


def test_frozen_parameters_stay_unchanged_and_are_excluded_from_the_clipped_norm():
    params = {
        "A": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "B": {"kernel": jnp.ones((2, 2))},
    }
    grads = jax.tree.map(lambda x: 3 * jnp.ones_like(x), params)
    rule = make_optimizer("momentum", 0.1, momentum=0.9, clip_norm=2.0, freeze=("A",))
    opt_state = rule.init(params)
    for _ in range(3):
        updates, opt_state = rule.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["A"]["kernel"], 1)
    np.testing.assert_array_equal(params["A"]["bias"], 1)
    # The clipped gradient of B has a norm of 2: 1 in each of its four values. Momentum adds up.
    np.testing.assert_allclose(params["B"]["kernel"], 1 - 0.1 * (1 + 1.9 + 2.71), rtol=1e-6)
    with pytest.raises(ConfigError, match="no parameter is called 'Z'; there are A, B"):
        make_optimizer("momentum", 0.1, freeze=("Z",)).init(params)


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [("A", {"A/kernel", "A/bias"}), ("*/bias", {"A/bias"}), ("B/kernel", {"B/kernel"})],
)
def test_freeze_patterns_select_parameters_by_path(pattern, frozen):
    params = {"A": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "B": {"kernel": jnp.ones(2)}}
    rule = make_optimizer("rmsprop", 0.1, freeze=(pattern,))
    updates, _ = rule.update(params, rule.init(params), params)
    assert {name for name, leaf in leaves(updates).items() if not leaf.any()} == frozen
