"""A rewritten network is the same function of the same variables."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random_variables import apart, some_gammas_negative, variables
from benchmarks.small_networks import each_row_once
from inception_jax.models import REGISTRY, get_architecture
from inception_jax.nn.conv import ACTIVATIONS
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.nn.norm import BatchNorm, single_pass_moments
from inception_jax.spec.measure import min_image_size
from inception_jax.spec.rewrite import (
    OPTIONS,
    RULES,
    RewriteError,
    is_applicable,
    select_rewrites,
    validate_rewrites,
)
from inception_jax.spec.vocabulary import (
    Architecture,
    Linear,
    Residual,
    Unit,
    avg,
    concat,
    global_avg,
    max_,
    same,
    table,
)
from tests.tiers import sweep

RNG = np.random.default_rng(0)
ALL = (*RULES, *OPTIONS)


def learned(network, tree, images):
    def loss(params):
        outputs, updated = network.apply(
            {**tree, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(3)},
        )
        return sum(jnp.square(logits).sum() for logits in (outputs.logits, *outputs.aux)), (
            outputs.logits,
            updated,
        )

    return jax.jit(jax.grad(loss, has_aux=True))(tree["params"])


def module(width):
    fork = concat(same(width, (1, 3)), same(width, (3, 1)))
    return concat(
        same(width, 1),
        (same(width, 1), fork),
        (same(width, 1), same(width, 3)),
        (avg(3), same(width, 1)),
    )


def small(unit):
    """A place for every rule, a residual and a nested fork among them."""
    block = Residual(concat(same(4, 1), (same(4, 1), same(4, 3))), expansion_conv=True)
    layers = table(
        Stem=same(8, 3, 2), Max=max_(3, 2), Mixed_a=module(4), Block_1=block, Block_2=block,
        Block_3=block, Mixed_b=module(6), Pool=global_avg(), Logits=Linear(),
    )  # fmt: skip
    return Architecture("small", "paper", layers, "a test", 16, unit=unit)


KINDS = [
    (Unit(), 8, 2),
    (Unit(norm_scale=False), 8, 0),
    (Unit(count_include_pad=True, bias=True), 7, 0),
    (Unit(norm=False, bias=True), 5, 0),
    (Unit(), 8, 1),
]


@pytest.mark.parametrize(
    ("unit", "count", "together"),
    sweep(KINDS, KINDS[:-1]),
    ids=["pairs", "no gamma", "bias", "no norm", "each alone"],
)
def test_rewrites_keep_outputs_gradients_and_statistics(x64, unit, count, together):
    """All that apply at once; and so many of them `together`."""
    network = Network(
        small(unit), num_classes=5, dtype=jnp.float64, norm=partial(BatchNorm, examples_per_group=2)
    )
    tree = some_gammas_negative(variables(network))
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    plain = learned(network, tree, images)
    rules = [rule for rule in ALL if is_applicable(network.architecture, rule)]
    assert len(rules) == count
    parts = [tuple(rules[i : i + together]) for i in range(0, count, together)] if together else []
    for part in (tuple(rules), *parts):
        assert apart(learned(network.clone(rewrites=part), tree, images), plain) < 1e-10, part


def joined():
    """The first network of each set of rows with siblings."""
    first = {}
    for name in REGISTRY:
        if "merge_sibling_convs" in select_rewrites(get_architecture(name), "tpu"):
            first.setdefault(frozenset(steps for _, steps in get_architecture(name).layers), name)
    return list(first.values())


@pytest.mark.nightly
@pytest.mark.parametrize("name", joined())
def test_rewritten_networks_give_the_same_logits_within_2e_5_at_two_image_sizes(name):
    network = create(name)
    network = network.clone(architecture=each_row_once(network.architecture))
    rewritten = network.clone(rewrites=select_rewrites(network.architecture, "tpu"))
    least = min_image_size(network.architecture)
    tree = variables(network, image_size=least)
    image = jax.ShapeDtypeStruct((1, least, least, network.architecture.channels), jnp.float32)
    assert jax.eval_shape(rewritten.init, jax.random.key(0), image) == jax.eval_shape(
        network.init, jax.random.key(0), image
    )
    for size in (least, least + 27):
        images = jax.random.normal(
            jax.random.key(1), (2, size, size, network.architecture.channels)
        )
        found, wanted = (jax.jit(net.apply)(tree, images).logits for net in (rewritten, network))
        assert apart(found, wanted) <= 2e-5


@pytest.mark.slow
def test_a_rewritten_network_returns_the_same_end_points(x64):
    """A row whose pool has gone before its norm has another shape: not where it is asked for."""
    network = Network(small(Unit()), num_classes=5, dtype=jnp.float64)
    tree, images = variables(network), jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    wanted = network.apply(tree, images, end_points=["Stem", "Max", "Block_2", "Mixed_b"])
    found = network.clone(rewrites=ALL).apply(
        tree, images, end_points=["Stem", "Max", "Block_2", "Mixed_b"]
    )
    assert apart(found, wanted) < 1e-10


@pytest.mark.slow
def test_a_rewritten_network_is_initialised_to_the_same_values():
    network = Network(small(Unit()), num_classes=5)
    begun = [
        jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
        for net in (network, network.clone(rewrites=ALL))
    ]
    jax.tree.map(np.testing.assert_array_equal, *begun)


def test_a_rewrite_that_does_not_apply_to_the_network_is_refused():
    with pytest.raises(
        RewriteError, match=r"project_before_pool is for .* which resnet50 does not have"
    ):
        create("resnet50", rewrites=("project_before_pool",))


@pytest.mark.parametrize("mean", [0.0, 3.0, 1e4])
def test_single_pass_moments_about_a_point_near_the_mean_match_numpy(mean):
    """Within 1e-5 of the variance where that point is a deviation away, in float32."""
    x = RNG.normal(mean, 1, (1, 16, 9, 9, 4)).astype(np.float32)
    found = single_pass_moments(jnp.asarray(x), (1, 2, 3), jnp.full(4, mean + 1, jnp.float32))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found[0], wide.mean((1, 2, 3), keepdims=True), atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(found[1], wide.var((1, 2, 3), keepdims=True), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rewrites", [(), ALL], ids=["none", "all"])
def test_a_masked_batch_gives_the_results_of_the_batch_without_its_masked_examples(x64, rewrites):
    table = small(Unit())
    network = Network(
        table,
        num_classes=10,
        dtype=jnp.float64,
        rewrites=rewrites,
        norm=partial(BatchNorm, decay=0.8),
    )
    tree = jax.tree.map(jnp.float64, some_gammas_negative(variables(network, image_size=16)))
    mask = np.array([True, True, False, True, True, False])
    images = RNG.normal(size=(6, 16, 16, 3))
    images[~mask] = 7.0

    def learned(images, weights, **options):
        def loss(params):
            outputs, updated = network.apply(
                {**tree, "params": params}, images, train=True, mutable=["batch_stats"], **options
            )
            return (jnp.square(outputs.logits).sum(-1) * weights).sum(), (
                outputs.logits,
                updated["batch_stats"],
            )

        return jax.jit(jax.grad(loss, has_aux=True))(tree["params"])

    gradient, (logits, stats) = learned(
        jnp.asarray(images), jnp.asarray(mask, jnp.float64), mask=jnp.asarray(mask)
    )
    wanted, (wanted_logits, wanted_stats) = learned(jnp.asarray(images[mask]), jnp.ones(4))
    np.testing.assert_allclose(logits[mask], wanted_logits, rtol=0, atol=1e-10)
    assert apart(gradient, wanted) < 1e-10
    assert apart(stats, wanted_stats) < 1e-10


class GroupNorm(BatchNorm):
    """Normalises each example over half of its channels: of two values the larger may become the
    smaller.
    """

    @nn.compact
    def __call__(self, x, *, train, **_):
        return nn.GroupNorm(num_groups=2, name="groups")(x)


@pytest.mark.parametrize("rule", ["pool_before_norm", "single_pass_moments"])
def test_rewrites_for_batch_norm_are_refused_for_another_norm(rule):
    table = small(Unit())
    images = jnp.asarray(RNG.normal(size=(2, 16, 16, 3)), jnp.float32)
    network = Network(table, num_classes=10, norm=partial(GroupNorm))
    tree = network.init({"params": jax.random.key(0)}, images)
    with pytest.raises(
        RewriteError, match=rf"{rule}: wanted is a norm .* but GroupNorm does not declare that"
    ):
        network.clone(rewrites=(rule,)).apply(tree, images)


def test_sibling_convolutions_of_another_norm_are_merged_without_moments():
    images = jnp.asarray(RNG.normal(size=(2, 16, 16, 3)), jnp.float32)
    network = Network(small(Unit()), num_classes=10, norm=partial(GroupNorm))
    tree = network.init({"params": jax.random.key(0)}, images)
    merged = network.clone(rewrites=("merge_sibling_convs", "project_before_pool"))
    for train in (False, True):
        found, plain = (
            one.apply(tree, images, train=train, mutable=["batch_stats"])[0].logits
            for one in (merged, network)
        )
        np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-5)


def test_a_max_pool_stays_behind_an_activation_that_is_not_monotone(monkeypatch):
    """Uses `swish`, which falls below -1.28."""
    monkeypatch.setitem(ACTIVATIONS, "swish", nn.swish)
    table = Architecture(
        "mine", "paper", small(Unit()).layers, "a test", 16, unit=Unit(activation="swish")
    )
    with pytest.raises(RewriteError, match="pool_before_norm is for"):
        validate_rewrites(table, ("pool_before_norm",))
    images = jnp.asarray(RNG.normal(size=(2, 16, 16, 3)), jnp.float32)
    network = Network(table, num_classes=10)
    tree = variables(network, image_size=16)
    found, plain = (
        one.apply(tree, images).logits
        for one in (network.clone(rewrites=("pool_before_norm",)), network)
    )
    np.testing.assert_array_equal(found, plain)
