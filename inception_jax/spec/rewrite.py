"""Tables that compute the same for less: other orders of the same words, with the same parameters under the same names.

Every rule holds in exact arithmetic for all inputs and all parameters, in training as in evaluation; what differs is rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Concat, Conv, Pool, Steps, flatten, rewritten


class RewriteError(ValueError):
    """A rewrite that was asked for where it would change the function, or where there is nothing for it to do."""


def projected_first(pool: Pool, conv: Conv) -> Conv:
    """`(avg(3), same(32, 1))` as one word: the kernel first, the pool after it, and then bias, norm and activation.

    A 1x1 kernel acts on channels alone and an average on positions alone, so their order is free; to pool 32 channels instead of 192 is
    less to move. Whatever is not linear, or adds a constant where padding is counted as zeros, stays behind the pool.

    Raises:
      RewriteError: another pool, another kernel.
    """
    if pool.kind != "avg" or pool.kernel is None:
        raise RewriteError(
            f"a projection goes before an average over windows, and this is a {pool.kind} pool of {pool.kernel or 'the map'}"
        )
    if not pointwise(conv) or conv.pool:
        raise RewriteError(f"what goes before an average pool is a 1x1 convolution of stride 1, and this is {conv}")
    return replace(conv, pool=pool)


def pointwise(word: Any) -> bool:
    """Whether this is a plain 1x1 convolution: a matrix product at each position."""
    return isinstance(word, Conv) and (word.kernel, word.stride, word.depth_multiplier) == ((1, 1), (1, 1), None) and word.padding != "ceil"


def project_first(part: Any) -> Any:
    """Every average pool of stride 1 and the projection behind it, exchanged. With a stride, to pool first is cheaper."""
    if not isinstance(part, Concat):
        return part
    return replace(part, branches=tuple(map(_exchanged, part.branches)))


def _exchanged(steps: Steps) -> Steps:
    words = list(flatten(steps))
    for i, (pool, conv) in enumerate(pairwise(words)):
        if isinstance(pool, Pool) and pool.kind == "avg" and pool.kernel and pool.stride == (1, 1) and pointwise(conv):
            return (*words[:i], projected_first(pool, conv), *words[i + 2 :])
    return steps


def join_siblings(part: Any) -> Any:
    """The 1x1 convolutions with which branches begin, as one matrix product of their common input."""
    if not isinstance(part, Concat):
        return part
    first = [next(flatten(steps), None) for steps in part.branches]
    siblings = tuple(i for i, word in enumerate(first) if pointwise(word))
    return replace(part, siblings=siblings) if len(siblings) > 1 else part


RULES: Mapping[str, Callable[[Any], Any]] = {"project_first": project_first, "join_siblings": join_siblings}
"""In the order in which they are applied: a projection that goes first is a sibling."""


def rewrite(architecture: Architecture, rules: Sequence[str] = tuple(RULES)) -> Architecture:
    """The architecture with these rules applied wherever they hold.

    Raises:
      RewriteError: an unknown rule, or one for which there is no place in it.
    """
    if unknown := set(rules) - set(RULES):
        raise RewriteError(f"no rewrite {', '.join(sorted(unknown))}; there are {', '.join(RULES)}")
    for name, rule in RULES.items():
        if name in rules:
            changed = rewritten(architecture, rule)
            if changed == architecture:
                raise RewriteError(f"{name}: nothing in {architecture.name} has the form that it is for")
            architecture = changed
    return architecture
