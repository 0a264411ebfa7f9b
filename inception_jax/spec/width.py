"""The width multiplier, which scales every filter count of a table."""

from dataclasses import replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Conv, Linear, rewrite_words

DIVISOR = 8


def widen(architecture: Architecture, multiplier: float) -> Architecture:
    """Returns the table with `multiplier` times the filters, in multiples of 8 and at least 8.

    Equal counts stay equal, so residual sums still fit. The classifier keeps the number of classes.

    Raises:
      ValueError: The multiplier is not positive.
    """
    if not multiplier > 0:
        raise ValueError(
            f"a width multiplier of {multiplier} leaves no filters: give a number above 0"
        )

    def scale_count(count: int) -> int:
        return max(DIVISOR, round(count * multiplier / DIVISOR) * DIVISOR)

    def change(word: Any) -> Any:
        if isinstance(word, Conv) and word.filters:
            return replace(word, filters=scale_count(word.filters))
        if isinstance(word, Linear) and word.features:
            return replace(word, features=scale_count(word.features))
        return word

    return architecture if multiplier == 1 else rewrite_words(architecture, change)
