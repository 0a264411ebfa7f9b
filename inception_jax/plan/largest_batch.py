"""The largest batch that fits, found by compiling."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import gcd
from typing import Any

TRUSTED_FRACTION = 4
"""Guesses along a straight line, before the rest is halved: above some size the compiler begins to compute things twice to save memory."""

Answer = Mapping[str, Any]


def find_largest_batch(
    candidates: Sequence[int], attempt: Callable[[int], Answer], *, start: int, fixed: int
) -> Answer:
    """The answer for the largest of the ascending `candidates` that fits; that for the smallest where none does.

    Memory grows about evenly with the batch, so two or three attempts mostly find it, and one more shows that the next does not fit.

    Args:
      attempt: compiles with so many images: `fits`, `memory_bytes` and `memory_limit_bytes`, None where not known.
      start: the first to try, or the nearest candidate below.
      fixed: bytes of what does not grow: the state.
    """
    low, high = -1, len(candidates)  # the largest that fits, and the smallest that does not
    found: dict[int, Answer] = {}
    guess = max(0, bisect_right(candidates, start) - 1)
    while low + 1 < high:
        guess = min(max(guess, low + 1), high - 1)
        answer = found[guess] = attempt(candidates[guess])
        low, high = (guess, high) if answer["fits"] else (low, guess)
        used, limit = answer["memory_bytes"], answer["memory_limit_bytes"]
        if len(found) <= TRUSTED_FRACTION and used and limit and used > fixed:
            guess = (
                bisect_right(candidates, candidates[guess] * (limit - fixed) / (used - fixed)) - 1
            )
        else:
            guess = (low + high) // 2 if high < len(candidates) else 2 * low + 1
    return found[max(low, 0)]


def list_batch_candidates(examples_per_group: int, devices: int, most: int) -> list[int]:
    """Images a device, up to `most`, such that no group lies across the border of two devices' shares without filling them.

    Of the whole batch as one group (0), and of small groups, every eighth: a TPU computes on eight rows at a time.
    """
    group = examples_per_group
    small = [
        n
        for n in range(1, group or 8)
        if (group or 8) % n == 0 and n * devices % max(group, 1) == 0
    ]
    step = 8 * group // gcd(8, group) if group else 8
    return [n for n in sorted({*small, group or 8, *range(step, most + 1, step)}) if n <= most]
