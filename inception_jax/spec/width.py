"""The width multiplier: any table, with every filter count scaled."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture

DIVISOR = 8


def widen(architecture: Architecture, multiplier: float) -> Architecture:
    """The same table with `multiplier` times the filters, rounded to a multiple of 8 and at least 8.

    Equal counts stay equal, so residual sums still fit; the classifier keeps the number of classes.

    Raises:
      ValueError: a multiplier that is not positive.
    """
    if not multiplier > 0:
        raise ValueError(f"a width multiplier of {multiplier} leaves no filters: give a number above 0")
    if multiplier == 1:
        return architecture
    return replace(architecture, layers=_scaled(architecture.layers, multiplier), aux=_scaled(architecture.aux, multiplier))


def _scaled(part: Any, multiplier: float) -> Any:
    if isinstance(part, tuple):
        return tuple(_scaled(item, multiplier) for item in part)
    if not is_dataclass(part):
        return part
    changes: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name in ("filters", "features") and value is not None:
            changes[field.name] = max(DIVISOR, round(value * multiplier / DIVISOR) * DIVISOR)
        elif field.name in ("branches", "branch", "shortcut", "steps"):
            changes[field.name] = _scaled(value, multiplier)
    return replace(part, **changes)  # type: ignore[type-var]
