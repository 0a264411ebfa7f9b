"""The width multiplier: any table, with every filter count scaled."""

from dataclasses import replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Conv, Linear, rewrite_words

DIVISOR = 8


def widen(architecture: Architecture, multiplier: float) -> Architecture:
    """The same table with `multiplier` times the filters, rounded to a multiple of 8 and at least 8.

    Equal counts stay equal, so residual sums still fit; the classifier keeps the number of classes.

    Raises:
      ValueError: a multiplier that is not positive.
    """
    if not multiplier > 0:
        raise ValueError(
            f"a width multiplier of {multiplier} leaves no filters: give a number above 0"
        )

    def scaled(count: int) -> int:
        return max(DIVISOR, round(count * multiplier / DIVISOR) * DIVISOR)

    def change(word: Any) -> Any:
        if isinstance(word, Conv) and word.filters:
            return replace(word, filters=scaled(word.filters))
        if isinstance(word, Linear) and word.features:
            return replace(word, features=scaled(word.features))
        return word

    return architecture if multiplier == 1 else rewrite_words(architecture, change)
