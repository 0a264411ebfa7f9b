"""A score with its bias and standard error, and the block jackknife that estimates both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

JACKKNIFE_BLOCKS = 10
"""Blocks of the jackknife: each takes 16 MiB on a device at 2048 features."""
MIN_BLOCKS = 4
"""Blocks below which no interval is given: a batch is one at most."""


class Score(NamedTuple):
    """A number that compares two sets of images, or describes one.

    Attributes:
      value: The number, as the preset defines it.
      num_real: Images of the reference set; None where its statistics do not record it.
      num_fake: Images of the generated set, likewise.
      bias: Expected excess of `value` over its limit for ever larger sets; 0 for an unbiased
        estimator, None where it is not known.
      deviation: Standard error of `value` between sets of these sizes; None where it is not known.
      split_deviation: Standard deviation over the splits or subsets, where the preset reports one.
      notes: What a reader has to know, in sentences.
    """

    value: float
    num_real: int | None
    num_fake: int | None
    bias: float | None = None
    deviation: float | None = None
    split_deviation: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def half_width(self) -> float | None:
        """Returns half the width of the interval of 95 %; None where it is not known."""
        return None if self.deviation is None else 1.96 * self.deviation


class Interval(NamedTuple):
    """Bias and standard error of an estimate; None for each where they are not known."""

    bias: float | None
    deviation: float | None


UNKNOWN_INTERVAL = Interval(None, None)


def jackknife(value: float, left_out: Sequence[float]) -> Interval:
    """Returns the bias and standard error of `value` by the block jackknife.

    Source: Efron and Stein 1981, "The jackknife estimate of variance"; for FID the bias is of order
    1/N (Chong and Forsyth 2020, arXiv:1911.07023).

    Args:
      value: The estimate from all examples.
      left_out: The estimates without one of the blocks each, for all blocks.

    Returns:
      The interval; `UNKNOWN_INTERVAL` for fewer than `MIN_BLOCKS` blocks.
    """
    count = len(left_out)
    if count < MIN_BLOCKS:
        return UNKNOWN_INTERVAL
    estimates = np.asarray(left_out, np.float64)
    squares = np.square(estimates - estimates.mean()).sum()
    return Interval(
        float((count - 1) * (estimates.mean() - value)),
        float(np.sqrt((count - 1) / count * squares)),
    )


def assign_blocks(count: int, blocks: int) -> np.ndarray:
    """Returns the block of each of `count` examples, [count] int: blocks take turns.

    Sets are often sorted by class. Blocks of consecutive examples would each lack some classes.
    """
    return np.arange(count) % max(blocks, 1)
