"""Tables that compute the same for less: other orders of the same words, with the same parameters under the same names.

Every rule holds in exact arithmetic for all inputs and all parameters, in training as in evaluation; what differs is rounding.
docs/rewrites.md tells what each saves where.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

from inception_jax.spec.rewritten import ComparedPool, PooledConv, SiblingConcat, extend
from inception_jax.spec.vocabulary import (
    Architecture,
    Concat,
    Conv,
    Pool,
    Steps,
    flatten,
    iterate_words,
    rewrite_words,
)

MONOTONE_ACTIVATIONS = ("relu", "sigmoid", "linear")
"""Activations that never fall where their input rises."""
NEEDS_BATCH_NORM = ("pool_before_norm", "single_pass_moments")
"""Rules for norms that rise or fall with each channel on its own, under statistics that they can be given."""


class RewriteError(ValueError):
    """A rewrite that was asked for where it would change the function, or where there is nothing for it to do."""


def is_pointwise(word: Any) -> TypeGuard[Conv]:
    """Whether this is a plain 1x1 convolution: a matrix product at each position."""
    return (
        isinstance(word, Conv)
        and (word.kernel, word.stride, word.depth_multiplier) == ((1, 1), (1, 1), None)
        and (
            isinstance(word.padding, str) or word.padding == (0, 0)
        )  # by a number it makes the map larger
    )


def pool_after_kernel(pool: Pool, conv: Any) -> PooledConv:
    """`(avg(3), same(32, 1))` as one word: the kernel first, the pool after it, and then bias, norm and activation.

    A 1x1 kernel acts on channels alone and an average on positions alone, so their order is free; to pool 32 channels instead of 192 is
    less to move. Whatever is not linear, or adds a constant where padding is counted as zeros, stays behind the pool.

    Raises:
      RewriteError: another pool, or something else behind it.
    """
    if pool.kind != "avg" or pool.kernel is None:
        what = f"a {pool.kind} pool" + ("" if pool.kernel else " of the whole map")
        raise RewriteError(
            f"a projection goes before an average over windows, which is linear, and this is {what}"
        )
    if not is_pointwise(conv) or isinstance(conv, PooledConv):
        raise RewriteError(
            f"what goes before an average pool is a 1x1 convolution of stride 1, and this is {conv}"
        )
    return extend(PooledConv, conv, pool=pool)


def project_before_pool(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """Every average pool of stride 1 and the projection behind it, exchanged. With a stride, to pool first is cheaper."""

    def exchanged(steps: Steps) -> Steps:
        words = list(flatten(steps))
        for i, (pool, conv) in enumerate(pairwise(words)):
            if (
                isinstance(pool, Pool)
                and pool.kind == "avg"
                and pool.kernel
                and pool.stride == (1, 1)
                and is_pointwise(conv)
            ):
                return (*words[:i], pool_after_kernel(pool, conv), *words[i + 2 :])
        return steps

    return rewrite_words(
        architecture,
        lambda part: (
            replace(part, branches=tuple(map(exchanged, part.branches)))
            if isinstance(part, Concat)
            else part
        ),
    )


def merge_sibling_convs(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """The 1x1 convolutions with which branches begin, as one matrix product of their common input."""

    def joined(part: Any) -> Any:
        if not isinstance(part, Concat):
            return part
        siblings = tuple(
            i for i, steps in enumerate(part.branches) if is_pointwise(next(flatten(steps), None))
        )
        return extend(SiblingConcat, part, siblings=siblings) if len(siblings) > 1 else part

    return rewrite_words(architecture, joined)


def pool_before_norm(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """Max pools straight behind a convolution with a norm go before that norm and the activation.

    Both rise with what they are given (activations: those in `MONOTONE_ACTIVATIONS`; norms: those that `nn.network` accepts), where gamma is negative
    the norm falls, and the kernel is turned for it; so the maximum of theirs is theirs of the maximum. What the pool reads is then the
    product itself, and what is normalised, activated and kept for the backward pass has been pooled. The moments stay those of the whole
    product.
    """
    rows = list(architecture.layers)
    alone = {*keep, *(head.at for head in architecture.aux)}
    for i in range(len(rows) - 1):  # of the rows as they are by then: a pool goes before one norm
        (name, first), (below, second) = rows[i : i + 2]
        match tuple(flatten(first)), tuple(flatten(second)):
            case (*before, Conv() as conv), (
                Pool("max", (_, _), pad_value=None) as pool,
                *after,
            ) if not isinstance(conv, PooledConv):
                rises = (conv.activation or architecture.unit.activation) in MONOTONE_ACTIVATIONS
                if rises and name not in alone and architecture.unit.of(conv) == (True, False):
                    rows[i : i + 2] = [
                        (name, (*before, extend(PooledConv, conv, pool=pool))),
                        (below, tuple(after)),
                    ]
    return replace(architecture, layers=tuple(rows))


def compare_in_max_pool_gradient(
    architecture: Architecture, keep: Collection[str] = ()
) -> Architecture:
    """The gradient of a max pool by comparing each window's values with its maximum, instead of XLA's select-and-scatter."""
    return rewrite_words(
        architecture,
        lambda part: (
            extend(ComparedPool, part)
            if isinstance(part, Pool) and part.kind == "max" and part.kernel
            else part
        ),
    )


class Rule(NamedTuple):
    """A rewrite, and the form that it is for."""

    apply: Callable[..., Architecture]
    form: str


class Option(NamedTuple):
    """A way of computing a table as it stands, whether one has a place for it, and what that is."""

    applies: Callable[[Architecture], bool]
    form: str


RULES: Mapping[str, Rule] = {
    "project_before_pool": Rule(
        project_before_pool,
        "a branch with an average pool of stride 1 straight before a 1x1 convolution",
    ),
    "merge_sibling_convs": Rule(
        merge_sibling_convs, "two or more branches of one input that begin with 1x1 convolutions"
    ),
    "pool_before_norm": Rule(
        pool_before_norm,
        "a max pool over windows straight behind a convolution with batch normalisation and without a bias, in rows of their own",
    ),
    "max_pool_gradient_by_comparison": Rule(
        compare_in_max_pool_gradient, "a max pool over windows"
    ),
}
"""In the order in which they are applied: a projection that goes first is a sibling."""
OPTIONS: Mapping[str, Option] = {
    "single_pass_moments": Option(
        lambda table: table.unit.norm, "convolutions with batch normalisation"
    ),
    "keep_convolutions": Option(
        lambda table: any(
            is_pointwise(word) for _, steps in table.layers for word in iterate_words(steps)
        ),
        "1x1 convolutions of stride 1",
    ),
}
"""`single_pass_moments`: norms take both moments of a batch in one pass, about the running mean, while it is computed. `keep_convolutions`: 1x1
kernels are convolutions instead of matrix products, which a TPU's compiler joins with norms about them."""
BEST_REWRITES: Mapping[str, tuple[str, ...]] = {
    "tpu": (
        "project_before_pool",
        "merge_sibling_convs",
        "pool_before_norm",
        "single_pass_moments",
        "keep_convolutions",
    ),
    "gpu": (
        "project_before_pool",
        "merge_sibling_convs",
        "pool_before_norm",
        "single_pass_moments",
    ),
    "cpu": ("project_before_pool",),
}
"""Those that win, by JAX's name of a platform. On GPUs they are taken to be what they are on TPUs, but for the last: not measured."""


def rewrite(
    architecture: Architecture, names: Sequence[str], keep: Collection[str] = ()
) -> Architecture:
    """The architecture by these rules, wherever in it they hold; the end points in `keep` have their values as they were."""
    for name, rule in RULES.items():
        if name in names:
            architecture = rule.apply(architecture, keep)
    return architecture


def has_place(architecture: Architecture, name: str) -> bool:
    """Returns whether a rule or an option changes how this table is computed."""
    return (
        OPTIONS[name].applies(architecture)
        if name in OPTIONS
        else RULES[name].apply(architecture) != architecture
    )


def validate_rewrites(architecture: Architecture, names: Sequence[str]) -> None:
    """Checks that each of these rules and options has a place somewhere.

    Raises:
      RewriteError: an unknown name, or one for which there is no place.
    """
    every: Mapping[str, Rule | Option] = {**RULES, **OPTIONS}
    if unknown := sorted(set(names) - set(every)):
        raise RewriteError(f"no rewrite {', '.join(unknown)}; there are {', '.join(every)}")
    for name in names:
        if not has_place(architecture, name):
            raise RewriteError(
                f"{name} is for {every[name].form}, which {architecture.name} has not"
            )


def check_norm(names: Sequence[str], norm: Any, *, needed: bool) -> None:
    """Sees to it that each of these rules may be used with a class of norms, which says so of itself and not for those derived from it.

    Args:
      needed: whether convolutions have a norm at all.

    Raises:
      RewriteError: a rule of `NEEDS_BATCH_NORM`, and another norm than it needs.
    """
    asked = [name for name in names if name in NEEDS_BATCH_NORM]
    if asked and needed and not vars(norm).get("is_batch_norm"):
        raise RewriteError(
            f"{', '.join(asked)}: wanted is a norm that is monotone in each channel under statistics that it can be given, and "
            f"{norm.__name__} does not say so (is_batch_norm = True in its class); leave these rewrites out"
        )


def select_rewrites(architecture: Architecture, platform: str) -> tuple[str, ...]:
    """Returns the rules and options that win on this platform, of those that have a place in this architecture."""
    return tuple(name for name in BEST_REWRITES.get(platform, ()) if has_place(architecture, name))
