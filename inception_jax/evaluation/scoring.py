"""Exact evaluation: every example once, whatever the batch size and the number of devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from inception_jax.data.source import DataError
from inception_jax.training.objective import Sums


def add_sums(
    sums: Iterable[Mapping[str, Any]], before: Mapping[str, float] = MappingProxyType({})
) -> dict[str, float]:
    """Adds sums to those `before` in float64 on the host."""
    total = dict(before)
    for one in jax.device_get(list(sums)):
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + float(np.float64(value))
    return total


def divide_by_count(total: Mapping[str, float]) -> dict[str, float]:
    """Returns the means: each sum divided by the count.

    Raises:
      DataError: The count is 0.
    """
    if not total.get("count"):
        raise DataError("not one of these examples could be read")
    return {name: value / total["count"] for name, value in total.items() if name != "count"}


def score_batches(
    step: Callable[[Any, Any], Sums],
    variables: Any,
    batches: Iterator[Any],
    *,
    examples: int,
    may_skip: bool = False,
) -> dict[str, float]:
    """Returns the means of `loss`, `top1`, `top5`, ..., and the `count` of examples.

    `skipped` is the number of examples that could not be read.

    Raises:
      AssertionError: The batches hold another number of examples than `examples`, or, with
        `may_skip`, more.
    """
    total = {"count": 0.0, **add_sums(step(variables, batch) for batch in batches)}
    skipped = examples - total["count"]
    assert skipped >= 0 if may_skip else skipped == 0, (
        f"evaluation saw {total['count']:.0f} of {examples} examples: the batches are wrong"
    )
    return {**divide_by_count(total), "count": total["count"], "skipped": skipped}
