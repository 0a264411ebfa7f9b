"""The division of a sweep between the default and the nightly tier."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sweep(cases: Iterable[Any], default: Collection[Any]) -> list[Any]:
    """Returns parameters of a test: the cases in `default` are slow, the others nightly.

    Raises:
      ValueError: a default that is no case.
    """
    cases = list(cases)
    if unknown := [case for case in default if case not in cases]:
        raise ValueError(f"no cases {unknown}; there are {cases}")
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=pytest.mark.slow if case in default else pytest.mark.nightly,
        )
        for case in cases
    ]
