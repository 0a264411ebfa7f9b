"""Confidence intervals of an accuracy."""

from math import sqrt


def wilson_half_width(share: float, count: float) -> float:
    """Returns half the width of Wilson's 95 % interval of a fraction of `count` examples."""
    z = 1.959963984540054
    return z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))


def format_with_interval(share: float, count: float) -> str:
    """Returns a fraction with its interval: `98.67% +- 1.13%`."""
    return f"{share:.2%} +- {wilson_half_width(share, count):.2%}"
