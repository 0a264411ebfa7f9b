"""Names of version 0.1 that version 0.2 still reads, with a note. A later release removes them."""

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

FIELDS: Mapping[str, Mapping[str, str]] = {
    "data": {"shift": "translate", "stretch": "scale", "turn": "rotate", "slant": "shear"}
}
"""Section -> old name of a field -> its name now."""
REWRITES: Mapping[str, str] = {
    "project_first": "project_before_pool",
    "join_siblings": "merge_sibling_convs",
    "maximum_first": "pool_before_norm",
    "compare_maxima": "pool_by_shifts",
    "max_pool_gradient_by_comparison": "pool_by_shifts",
    "one_pass": "single_pass_moments",
}
"""Old value of `model.rewrites` -> its value now."""
RECIPE_VARIABLES: Mapping[str, str] = {"assumptions": "stand_in"}
"""Variable of a recipe file -> its old name."""


def rename_fields(section: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a configuration section (`data`) under their names of this version."""
    renamed = FIELDS.get(section, {})
    for name in renamed.keys() & fields.keys():
        _warn(f"{section}.{name}", f"{section}.{renamed[name]}")
    return {renamed.get(name, name): value for name, value in fields.items()}


def rename_flags(arguments: Iterable[str]) -> list[str]:
    """Returns command-line arguments with each old flag (`--data.shift 3`) under its name now."""
    flags = {
        f"--{section}.{old}": f"--{section}.{new}"
        for section, renamed in FIELDS.items()
        for old, new in renamed.items()
    }
    result = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag in flags:
            _warn(flag, flags[flag])
        result.append(flags.get(flag, flag) + equals + value)
    return result


def read_variable(recipe: Any, name: str, default: Any) -> Any:
    """Returns a variable of a recipe's module, also under its old name."""
    old = RECIPE_VARIABLES[name]
    if hasattr(recipe, old) and not hasattr(recipe, name):
        _warn(f"a recipe's {old}", name)
        return getattr(recipe, old)
    return getattr(recipe, name, default)


@cache  # one note for each name in a process
def _warn(old: str, new: str) -> None:
    logging.getLogger(__name__).warning(
        "%s is now called %s; the old name is read until the next release", old, new
    )
