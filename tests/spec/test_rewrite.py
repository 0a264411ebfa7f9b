import pytest

from inception_jax.models import REGISTRY, architecture
from inception_jax.spec.measure import measure
from inception_jax.spec.rewrite import BEST, RULES, RewriteError, best, demand, projected_first, rewrite
from inception_jax.spec.rewritten import PooledConv, extend
from inception_jax.spec.vocabulary import (
    Architecture,
    Norm,
    Unit,
    avg,
    concat,
    conv,
    flatten,
    global_avg,
    max_,
    same,
    table,
    valid,
)


def of(*branches, **unit):
    return Architecture("mine", "paper", table(Mixed=concat(*branches)), "a test")


def branches(found):
    ((_, mixed),) = found.layers
    return mixed


def test_the_projection_rewrite_moves_an_average_pool_behind_the_projection():
    found = branches(rewrite(of(same(4, 1), (avg(3), same(8, 1), same(8, 3))), ["project_first"]))
    first, *rest = flatten(found.branches[1])
    assert (first.pool, first.filters, rest) == (avg(3), 8, [same(8, 3)])
    assert found.branches[0] == same(4, 1)


@pytest.mark.parametrize(
    "branch",
    [
        (max_(3), same(8, 1)),  # a maximum of sums is not the sum of maxima
        (avg(3), Norm(), same(8, 1)),  # a norm, or an activation alone, stands between
        (avg(3), Norm(activation="relu"), same(8, 1)),
        (avg(3), same(8, 3)),
        (avg(3), same(8, 1, 2)),
        (avg(3), conv(8, 1, padding=(1, 1))),
        (avg(3), same(8, 1, depth_multiplier=2)),
        (avg(3, 2), same(8, 1)),  # it would hold, and be dearer
        global_avg(),
    ],
)
def test_the_projection_rewrite_leaves_other_branches_unchanged_and_is_refused_for_them(branch):
    plain = of(same(8, 3), branch)
    assert rewrite(plain, ["project_first"]) == plain
    with pytest.raises(RewriteError, match="project_first is for a branch with an average pool"):
        demand(plain, ["project_first"])


@pytest.mark.parametrize(
    ("pool", "word", "message"),
    [
        (max_(3), same(8, 1), "an average over windows, which is linear, and this is a max pool$"),
        (global_avg(), same(8, 1), "this is a avg pool of the whole map"),
        (avg(3), Norm(), r"is a 1x1 convolution of stride 1, and this is Norm\(activation=None\)"),
        (avg(3), same(8, 3), "is a 1x1 convolution of stride 1, and this is Conv"),
    ],
)
def test_a_pool_and_a_layer_that_do_not_commute_are_refused_with_the_reason(pool, word, message):
    with pytest.raises(RewriteError, match=message):
        projected_first(pool, word)


def test_sibling_convolutions_are_the_branches_that_begin_with_a_plain_1x1():
    plain = of(same(4, 1), (same(4, 1), same(4, 3)), same(4, 3), (avg(3), same(4, 1)), same(4, 1, 2), valid(4, 1))
    assert branches(rewrite(plain, ["join_siblings"])).siblings == (0, 1, 5)
    assert branches(rewrite(plain, ["join_siblings", "project_first"])).siblings == (0, 1, 3, 5)
    with pytest.raises(RewriteError, match="two or more branches"):
        demand(of(same(4, 1), same(4, 3)), ["join_siblings"])


@pytest.mark.parametrize(
    ("first", "second", "unit"),
    [
        (same(8, 3), max_(3, 2), Unit(norm=False)),  # nothing to exchange with
        (same(8, 3), max_(3, 2), Unit(bias=True)),  # it would be added with the wrong sign
        (same(8, 3, norm=False), max_(3, 2), Unit()),
        (same(8, 3), avg(3, 2), Unit()),
        (same(8, 3), max_(3, 2, (1, 1), pad_value=0.0), Unit()),  # the zeros are of what comes after the activation
        (same(8, 3), global_avg(), Unit()),
        ((same(8, 3), Norm()), max_(3, 2), Unit()),
        (concat(same(8, 1), same(8, 3)), max_(3, 2), Unit()),
    ],
)
def test_the_pool_before_norm_rewrite_is_refused_where_it_does_not_apply(first, second, unit):
    plain = Architecture("mine", "paper", table(First=first, Second=second), "a test", unit=unit)
    with pytest.raises(RewriteError, match="maximum_first is for a max pool over windows straight behind"):
        demand(plain, ["maximum_first"])
    assert rewrite(plain, ["maximum_first"]) == plain


def test_the_pool_before_norm_rewrite_leaves_rows_that_are_kept_as_end_points():
    plain = Architecture("mine", "paper", table(First=(same(4, 1), same(8, 3)), Second=(max_(3, 2), same(4, 1))), "a test")
    (_, first), (_, second) = rewrite(plain, ["maximum_first"]).layers
    assert (first, second) == ((same(4, 1), extend(PooledConv, same(8, 3), pool=max_(3, 2))), (same(4, 1),))
    assert rewrite(plain, ["maximum_first"], keep=["First"]) == plain
    assert rewrite(plain, ["maximum_first"], keep=["Second"]) != plain


def test_a_max_pool_moves_before_one_norm_only():
    chain = Architecture("mine", "paper", table(A=same(8, 3), B=(max_(3, 2), same(8, 3)), C=max_(3, 2)), "a test")
    pooled = extend(PooledConv, same(8, 3), pool=max_(3, 2))
    assert [steps for _, steps in rewrite(chain, ["maximum_first"]).layers] == [(pooled,), (pooled,), ()]


def test_inapplicable_and_unknown_rewrites_are_refused_with_the_reason():
    with pytest.raises(RewriteError, match="one_pass is for convolutions with batch normalisation, which googlenet has not"):
        demand(architecture("googlenet"), ["one_pass"])
    with pytest.raises(RewriteError, match="compare_maxima is for a max pool over windows, which cifar_resnet20 has not"):
        demand(architecture("cifar_resnet20"), ["compare_maxima"])
    with pytest.raises(RewriteError, match="no rewrite faster; there are project_first, join_siblings, maximum_first"):
        demand(architecture("googlenet"), ["faster"])


def test_the_best_rewrites_apply_to_every_network_on_every_platform():
    assert best(architecture("inception_v3"), "tpu") == ("project_first", "join_siblings", "maximum_first", "one_pass", "keep_convolutions")
    assert best(architecture("resnet50"), "tpu") == ("maximum_first", "one_pass", "keep_convolutions")
    assert best(architecture("preact_resnet50"), "gpu") == ("one_pass",)
    assert best(architecture("inception_v3"), "cpu") == ("project_first",)
    assert best(architecture("cifar_resnet20"), "cpu") == ()
    for name in REGISTRY:
        for platform in BEST:
            demand(architecture(name), best(architecture(name), platform))


@pytest.mark.parametrize("name", REGISTRY)
def test_rewrites_keep_parameters_statistics_and_end_points(name):
    plain = measure(architecture(name))
    rewritten = measure(rewrite(architecture(name), tuple(RULES)))
    assert (rewritten.parameters, rewritten.batch_stats) == (plain.parameters, plain.batch_stats)
    found = measure(rewrite(architecture(name), tuple(RULES), keep=plain.end_points))
    assert (found.parameters, found.batch_stats, found.end_points) == (plain.parameters, plain.batch_stats, plain.end_points)
