import pytest

from inception_jax.models import REGISTRY, get_architecture
from inception_jax.spec.measure import measure
from inception_jax.spec.rewrite import (
    BEST_REWRITES,
    RULES,
    RewriteError,
    move_pool_after_kernel,
    rewrite,
    select_rewrites,
    validate_rewrites,
)
from inception_jax.spec.rewritten import PooledConv, extend
from inception_jax.spec.vocabulary import (
    Architecture,
    NormAct,
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


def make_architecture(*branches):
    return Architecture("mine", "paper", table(Mixed=concat(*branches)), "a test")


def get_concat(architecture):
    ((_, mixed),) = architecture.layers
    return mixed


def test_the_projection_rewrite_moves_an_average_pool_behind_the_projection():
    concatenation = get_concat(
        rewrite(
            make_architecture(same(4, 1), (avg(3), same(8, 1), same(8, 3))), ["project_before_pool"]
        )
    )
    first, *rest = flatten(concatenation.branches[1])
    assert (first.pool, first.filters, rest) == (avg(3), 8, [same(8, 3)])
    assert concatenation.branches[0] == same(4, 1)


@pytest.mark.parametrize(
    "branch",
    [
        (max_(3), same(8, 1)),  # a maximum of sums is not the sum of maxima
        (avg(3), NormAct(), same(8, 1)),  # a norm, or only an activation, is between them
        (avg(3), NormAct(activation="relu"), same(8, 1)),
        (avg(3), same(8, 3)),
        (avg(3), same(8, 1, 2)),
        (avg(3), conv(8, 1, padding=(1, 1))),
        (avg(3), same(8, 1, depth_multiplier=2)),
        (avg(3, 2), same(8, 1)),  # exact, but more expensive
        global_avg(),
    ],
)
def test_the_projection_rewrite_leaves_other_branches_unchanged_and_is_refused_for_them(branch):
    plain = make_architecture(same(8, 3), branch)
    assert rewrite(plain, ["project_before_pool"]) == plain
    with pytest.raises(
        RewriteError, match="project_before_pool is for a branch with an average pool"
    ):
        validate_rewrites(plain, ["project_before_pool"])


@pytest.mark.parametrize(
    ("pool", "word", "message"),
    [
        (max_(3), same(8, 1), "an average over windows, which is linear, and this is a max pool$"),
        (global_avg(), same(8, 1), "this is a avg pool of the whole map"),
        (
            avg(3),
            NormAct(),
            r"is a 1x1 convolution of stride 1, and this is NormAct\(activation=None\)",
        ),
        (avg(3), same(8, 3), "is a 1x1 convolution of stride 1, and this is Conv"),
    ],
)
def test_a_pool_and_a_layer_that_do_not_commute_are_refused_with_the_reason(pool, word, message):
    with pytest.raises(RewriteError, match=message):
        move_pool_after_kernel(pool, word)


def test_sibling_convolutions_are_the_branches_that_begin_with_a_plain_1x1():
    plain = make_architecture(
        same(4, 1),
        (same(4, 1), same(4, 3)),
        same(4, 3),
        (avg(3), same(4, 1)),
        same(4, 1, 2),
        valid(4, 1),
    )
    assert get_concat(rewrite(plain, ["merge_sibling_convs"])).siblings == (0, 1, 5)
    assert get_concat(rewrite(plain, ["merge_sibling_convs", "project_before_pool"])).siblings == (
        0,
        1,
        3,
        5,
    )
    with pytest.raises(RewriteError, match="two or more branches"):
        validate_rewrites(make_architecture(same(4, 1), same(4, 3)), ["merge_sibling_convs"])


@pytest.mark.parametrize(
    ("first", "second", "unit"),
    [
        (same(8, 3), max_(3, 2), Unit(norm=False)),  # no norm
        (same(8, 3), max_(3, 2), Unit(bias=True)),  # the bias would have the wrong sign
        (same(8, 3, norm=False), max_(3, 2), Unit()),
        (same(8, 3), avg(3, 2), Unit()),
        (
            same(8, 3),
            max_(3, 2, (1, 1), pad_value=0.0),
            Unit(),
        ),  # the zeros belong after the activation
        (same(8, 3), global_avg(), Unit()),
        ((same(8, 3), NormAct()), max_(3, 2), Unit()),
        (concat(same(8, 1), same(8, 3)), max_(3, 2), Unit()),
    ],
)
def test_the_pool_before_norm_rewrite_is_refused_where_it_does_not_apply(first, second, unit):
    plain = Architecture("mine", "paper", table(First=first, Second=second), "a test", unit=unit)
    with pytest.raises(
        RewriteError, match="pool_before_norm is for a max pool over windows straight behind"
    ):
        validate_rewrites(plain, ["pool_before_norm"])
    assert rewrite(plain, ["pool_before_norm"]) == plain


def test_the_pool_before_norm_rewrite_leaves_rows_that_are_kept_as_end_points():
    plain = Architecture(
        "mine",
        "paper",
        table(First=(same(4, 1), same(8, 3)), Second=(max_(3, 2), same(4, 1))),
        "a test",
    )
    (_, first), (_, second) = rewrite(plain, ["pool_before_norm"]).layers
    assert (first, second) == (
        (same(4, 1), extend(PooledConv, same(8, 3), pool=max_(3, 2))),
        (same(4, 1),),
    )
    assert rewrite(plain, ["pool_before_norm"], keep=["First"]) == plain
    assert rewrite(plain, ["pool_before_norm"], keep=["Second"]) != plain


def test_a_max_pool_moves_before_one_norm_only():
    chain = Architecture(
        "mine", "paper", table(A=same(8, 3), B=(max_(3, 2), same(8, 3)), C=max_(3, 2)), "a test"
    )
    pooled = extend(PooledConv, same(8, 3), pool=max_(3, 2))
    assert [steps for _, steps in rewrite(chain, ["pool_before_norm"]).layers] == [
        (pooled,),
        (pooled,),
        (),
    ]


def test_inapplicable_and_unknown_rewrites_are_refused_with_the_reason():
    with pytest.raises(
        RewriteError,
        match="single_pass_moments is for convolutions with batch normalisation, "
        "which googlenet does not have",
    ):
        validate_rewrites(get_architecture("googlenet"), ["single_pass_moments"])
    with pytest.raises(
        RewriteError,
        match="pool_by_shifts is for a pool over windows, which cifar_resnet20 does not have",
    ):
        validate_rewrites(get_architecture("cifar_resnet20"), ["pool_by_shifts"])
    with pytest.raises(
        RewriteError,
        match="no rewrite faster; "
        "there are pool_by_shifts, project_before_pool, merge_sibling_convs, pool_before_norm",
    ):
        validate_rewrites(get_architecture("googlenet"), ["faster"])


def test_the_best_rewrites_apply_to_every_network_on_every_platform():
    assert select_rewrites(get_architecture("inception_v3"), "tpu") == (
        "project_before_pool",
        "merge_sibling_convs",
        "pool_before_norm",
        "single_pass_moments",
        "keep_convolutions",
    )
    assert select_rewrites(get_architecture("resnet50"), "tpu") == (
        "pool_before_norm",
        "single_pass_moments",
        "keep_convolutions",
    )
    assert select_rewrites(get_architecture("preact_resnet50"), "gpu") == (
        "pool_by_shifts",
        "keep_convolutions",
        "fused_norm",
        "low_precision_kernel_gradients",
    )
    assert select_rewrites(get_architecture("inception_v3"), "cpu") == ("project_before_pool",)
    assert select_rewrites(get_architecture("cifar_resnet20"), "cpu") == ()
    for name in REGISTRY:
        for platform in BEST_REWRITES:
            validate_rewrites(
                get_architecture(name), select_rewrites(get_architecture(name), platform)
            )


@pytest.mark.parametrize("name", REGISTRY)
def test_rewrites_keep_parameters_statistics_and_end_points(name):
    plain = measure(get_architecture(name))
    rewritten = measure(rewrite(get_architecture(name), tuple(RULES)))
    assert (rewritten.parameters, rewritten.batch_stats) == (plain.parameters, plain.batch_stats)
    kept = measure(rewrite(get_architecture(name), tuple(RULES), keep=plain.end_points))
    assert (kept.parameters, kept.batch_stats, kept.end_points) == (
        plain.parameters,
        plain.batch_stats,
        plain.end_points,
    )
