"""Rewrites of a table that compute the same function with less work.

A rewrite reorders the words and keeps the parameters and their names. Every rule is exact in exact
arithmetic for all inputs and all parameters, in training and in evaluation; only rounding differs.
docs/rewrites.md lists the savings of each rule on each platform.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

from inception_jax.spec.rewritten import PooledConv, ShiftedPool, SiblingConcat, extend
from inception_jax.spec.vocabulary import (
    Architecture,
    Concat,
    Conv,
    Pool,
    Residual,
    Steps,
    Unit,
    flatten,
    iterate_words,
    rewrite_words,
)

MONOTONE_ACTIVATIONS = ("relu", "sigmoid", "linear")
"""Activations that never decrease when their input increases."""
NEEDS_BATCH_NORM = ("pool_before_norm", "single_pass_moments", "fused_norm")
"""Rules that need a norm which is monotone in each channel and accepts given statistics."""


class RewriteError(ValueError):
    """A requested rewrite would change the function or has nothing to change."""


def is_pointwise(word: Any) -> TypeGuard[Conv]:
    """Returns whether this is a plain 1x1 convolution: a matrix product at each position."""
    return (
        isinstance(word, Conv)
        and (word.kernel, word.stride, word.depth_multiplier) == ((1, 1), (1, 1), None)
        # Other numbers of padding enlarge the map.
        and (isinstance(word.padding, str) or word.padding == (0, 0))
    )


def move_pool_after_kernel(pool: Pool, conv: Any) -> PooledConv:
    """Returns `(avg(3), same(32, 1))` as one word: kernel, pool, then bias, norm and activation.

    A 1x1 kernel acts on channels only and an average on positions only, so their order is free.
    Pooling 32 channels instead of 192 moves less data. The bias, the norm and the activation stay
    after the pool: they are not linear, or add a constant where padding counts as zeros.

    Raises:
      RewriteError: The pool is no average over windows, or the word after it is no 1x1 convolution.
    """
    if pool.kind != "avg" or pool.kernel is None:
        pool_name = f"a {pool.kind} pool" + ("" if pool.kernel else " of the whole map")
        raise RewriteError(
            "a projection goes before an average over windows, which is linear, "
            f"and this is {pool_name}"
        )
    if not is_pointwise(conv) or isinstance(conv, PooledConv):
        raise RewriteError(
            f"what goes before an average pool is a 1x1 convolution of stride 1, and this is {conv}"
        )
    return extend(PooledConv, conv, pool=pool)


def project_before_pool(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """Moves average pools of stride 1 in branches after the projection that follows them.

    With a larger stride it is cheaper to pool first.
    """

    def exchange(steps: Steps) -> Steps:
        words = list(flatten(steps))
        for i, (pool, conv) in enumerate(pairwise(words)):
            match pool:
                case Pool("avg", (_, _), stride=(1, 1)) if is_pointwise(conv):
                    return (*words[:i], move_pool_after_kernel(pool, conv), *words[i + 2 :])
        return steps

    def change(part: Any) -> Any:
        if isinstance(part, Concat):
            return replace(part, branches=tuple(map(exchange, part.branches)))
        return part

    return rewrite_words(architecture, change)


def merge_sibling_convs(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """Merges the 1x1 convolutions that begin branches of one input into one matrix product."""

    def change(part: Any) -> Any:
        if not isinstance(part, Concat):
            return part
        siblings = tuple(
            i for i, steps in enumerate(part.branches) if is_pointwise(next(flatten(steps), None))
        )
        return extend(SiblingConcat, part, siblings=siblings) if len(siblings) > 1 else part

    return rewrite_words(architecture, change)


def pool_before_norm(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """Moves max pools that directly follow a normalised convolution before its norm.

    Norm and activation are monotone (activations: `MONOTONE_ACTIVATIONS`; norms: those that
    `nn.network` accepts), so they commute with the maximum. Where gamma is negative the norm
    decreases, and the sign of the kernel is flipped. The pool then reads the product itself, and
    the values that are normalised, activated and kept for the backward pass are pooled values. The
    moments are still those of the whole product.
    """
    rows = list(architecture.layers)
    unpoolable = {*keep, *(head.at for head in architecture.aux)}
    for i in range(len(rows) - 1):  # reads the rewritten rows, so a pool moves before one norm only
        (name, first), (next_name, second) = rows[i : i + 2]
        match tuple(flatten(first)), tuple(flatten(second)):
            case (*before, Conv() as conv), (
                Pool("max", (_, _), pad_value=None) as pool,
                *after,
            ) if not isinstance(conv, PooledConv):
                activation = conv.activation or architecture.unit.activation
                if (
                    activation in MONOTONE_ACTIVATIONS
                    and name not in unpoolable
                    and architecture.unit.get_norm_and_bias(conv) == (True, False)
                ):
                    pooled = extend(PooledConv, conv, pool=pool)
                    rows[i : i + 2] = [(name, (*before, pooled)), (next_name, tuple(after))]
    return replace(architecture, layers=tuple(rows))


def pool_by_shifts(architecture: Architecture, keep: Collection[str] = ()) -> Architecture:
    """Computes pools over windows from shifted maps, and the gradient of a maximum by its index.

    XLA's reduce-window and select-and-scatter are not used then.
    """

    def change(part: Any) -> Any:
        is_windowed = isinstance(part, Pool) and part.kernel and not part.grid
        return extend(ShiftedPool, part) if is_windowed else part

    return rewrite_words(architecture, change)


def ends_in_norm(word: Residual, unit: Unit) -> bool:
    """Returns whether this is relu(shortcut + norm), which can be one operation."""
    *_, last = flatten(word.branch)
    return (
        (word.activation or unit.activation) == "relu"
        and word.shortcut != "pad"
        and (word.scale, word.expansion_conv, word.norm) == (1, False, False)
        and isinstance(last, Conv)
        and not isinstance(last, PooledConv)
        and unit.get_norm_and_bias(last)[0]
        and (last.activation or unit.activation) == "linear"
    )


class Rule(NamedTuple):
    """A rewrite of a table.

    Attributes:
      apply: (architecture, end points to keep) -> architecture.
      form: The form that it applies to, for messages.
    """

    apply: Callable[..., Architecture]
    form: str


class Option(NamedTuple):
    """A way of computing an unchanged table.

    Attributes:
      applies: Whether an architecture has the form.
      form: The form that it applies to, for messages.
    """

    applies: Callable[[Architecture], bool]
    form: str


RULES: Mapping[str, Rule] = {
    "pool_by_shifts": Rule(pool_by_shifts, "a pool over windows"),
    "project_before_pool": Rule(
        project_before_pool,
        "a branch with an average pool of stride 1 straight before a 1x1 convolution",
    ),
    "merge_sibling_convs": Rule(
        merge_sibling_convs, "two or more branches of one input that begin with 1x1 convolutions"
    ),
    "pool_before_norm": Rule(
        pool_before_norm,
        "a max pool over windows straight behind a convolution with batch normalisation and "
        "without a bias, in rows of their own",
    ),
}
"""The rules in their order of application.

A pool that moves is computed by shifts, and a projection that moves to the front is a sibling.
"""
OPTIONS: Mapping[str, Option] = {
    "single_pass_moments": Option(
        lambda table: table.unit.norm, "convolutions with batch normalisation"
    ),
    "keep_convolutions": Option(
        lambda table: any(is_pointwise(word) for word in iterate_words(table.layers)),
        "1x1 convolutions of stride 1",
    ),
    "fused_norm": Option(lambda table: table.unit.norm, "convolutions with batch normalisation"),
    "low_precision_kernel_gradients": Option(
        lambda table: any(isinstance(word, Conv) for word in iterate_words(table.layers)),
        "convolutions",
    ),
}
"""Options of the computation.

`single_pass_moments`: Norms compute both moments of a batch in one pass, about the running mean,
while it is computed. `keep_convolutions`: 1x1 kernels are convolutions instead of matrix products;
a TPU's compiler fuses convolutions with the norms around them. `fused_norm`: A norm and the
activation after it are one operation with a gradient of its own; so are a max pool that
`pool_before_norm` moved before it, and the sum that ends a residual block. Moments take one pass.
`low_precision_kernel_gradients`: The gradients of the kernels of convolutions are rounded to the
dtype of the activations, before they are summed over devices in that of the kernels.
"""
BEST_REWRITES: Mapping[str, tuple[str, ...]] = {
    "tpu": (
        "project_before_pool",
        "merge_sibling_convs",
        "pool_before_norm",
        "single_pass_moments",
        "keep_convolutions",
    ),
    "gpu": (
        "pool_by_shifts",
        "project_before_pool",
        "merge_sibling_convs",
        "pool_before_norm",
        "keep_convolutions",
        "fused_norm",
        "low_precision_kernel_gradients",
    ),
    "cpu": ("project_before_pool",),
}
"""The rewrites that save time, by JAX's name of the platform.

Those for GPUs move the fewest bytes by the count of `plan.program` (docs/gpu.md).
"""


def rewrite(
    architecture: Architecture, names: Sequence[str], keep: Collection[str] = ()
) -> Architecture:
    """Applies these rules wherever they hold.

    Args:
      architecture: The network.
      names: Names of rules. Names of options are ignored.
      keep: End points whose values must not change.
    """
    for name, rule in RULES.items():
        if name in names:
            architecture = rule.apply(architecture, keep)
    return architecture


def is_applicable(architecture: Architecture, name: str) -> bool:
    """Returns whether a rule or an option changes how this table is computed."""
    return (
        OPTIONS[name].applies(architecture)
        if name in OPTIONS
        else RULES[name].apply(architecture) != architecture
    )


def validate_rewrites(architecture: Architecture, names: Sequence[str]) -> None:
    """Checks that each of these rules and options applies to the architecture.

    Raises:
      RewriteError: A name is unknown or does not apply.
    """
    every: Mapping[str, Rule | Option] = {**RULES, **OPTIONS}
    if unknown := sorted(set(names) - set(every)):
        raise RewriteError(f"no rewrite {', '.join(unknown)}; there are {', '.join(every)}")
    for name in names:
        if not is_applicable(architecture, name):
            raise RewriteError(
                f"{name} is for {every[name].form}, which {architecture.name} does not have"
            )


def validate_norm(names: Sequence[str], norm: Any, *, needed: bool) -> None:
    """Checks that these rules may be used with a class of norms.

    A class declares that with `is_batch_norm = True`. The declaration does not hold for subclasses.

    Args:
      names: Names of rules and options.
      norm: The class of the norms.
      needed: Whether convolutions have a norm at all.

    Raises:
      RewriteError: A rule of `NEEDS_BATCH_NORM` is used with another norm than it needs.
    """
    restricted = [name for name in names if name in NEEDS_BATCH_NORM]
    if restricted and needed and not vars(norm).get("is_batch_norm"):
        raise RewriteError(
            f"{', '.join(restricted)}: wanted is a norm that is monotone in each channel and "
            f"accepts moments and fused operations, but {norm.__name__} does not declare that "
            "(is_batch_norm = True in its class); leave these rewrites out"
        )


def select_rewrites(architecture: Architecture, platform: str) -> tuple[str, ...]:
    """Returns the rules and options that save time on this platform and apply to this network."""
    return tuple(
        name for name in BEST_REWRITES.get(platform, ()) if is_applicable(architecture, name)
    )
