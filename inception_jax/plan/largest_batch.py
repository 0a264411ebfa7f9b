"""The search for the largest batch that fits, by compiling."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import gcd
from typing import Any

MAX_LINEAR_GUESSES = 4
"""The number of guesses by linear interpolation, before the search bisects. Above some size the
compiler recomputes values to save memory, and the memory no longer grows linearly."""

Answer = Mapping[str, Any]


def find_largest_batch(
    candidates: Sequence[int], attempt: Callable[[int], Answer], *, start: int, fixed_bytes: int
) -> Answer:
    """Returns the answer for the largest candidate that fits; for the smallest if none fits.

    Memory grows almost linearly with the batch. Two or three attempts usually find the largest, and
    one more shows that the next does not fit.

    Args:
      candidates: Images per device, ascending.
      attempt: Compiles for so many images per device, and returns `fits`, `memory_bytes` and
        `memory_limit_bytes`, the last two None if unknown.
      start: The first candidate to try, or a number above it.
      fixed_bytes: The bytes that do not grow with the batch: those of the state.
    """
    low, high = -1, len(candidates)  # the largest that fits, and the smallest that does not
    answers: dict[int, Answer] = {}
    guess = max(0, bisect_right(candidates, start) - 1)
    while low + 1 < high:
        guess = min(max(guess, low + 1), high - 1)
        answer = answers[guess] = attempt(candidates[guess])
        low, high = (guess, high) if answer["fits"] else (low, guess)
        used, limit = answer["memory_bytes"], answer["memory_limit_bytes"]
        if len(answers) <= MAX_LINEAR_GUESSES and used and limit and used > fixed_bytes:
            scale = (limit - fixed_bytes) / (used - fixed_bytes)
            guess = bisect_right(candidates, candidates[guess] * scale) - 1
        else:
            guess = (low + high) // 2 if high < len(candidates) else 2 * low + 1
    return answers[max(low, 0)]


def list_batch_candidates(examples_per_group: int, devices: int, max_images: int) -> list[int]:
    """Returns the numbers of images per device to try, ascending.

    With these no norm group crosses the border between two devices without filling both. With the
    whole batch as one group (0), and with small groups, only every eighth number is a candidate: a
    TPU computes on eight rows at a time.

    Args:
      examples_per_group: The size of a norm group; 0 for the whole batch.
      devices: The number of devices.
      max_images: The largest number of images per device.
    """
    group = examples_per_group
    first = group or 8
    small = [n for n in range(1, first) if first % n == 0 and n * devices % max(group, 1) == 0]
    step = 8 * group // gcd(8, group) if group else 8
    candidates = sorted({*small, first, *range(step, max_images + 1, step)})
    return [n for n in candidates if n <= max_images]
