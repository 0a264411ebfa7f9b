"""The recordings of `tests/weights/record.py`."""

import json
from functools import cache
from typing import Any

import numpy as np

from tests.weights.record import FOLDER


@cache
def facts(source: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{source}.json").read_text())


def samples(source: str, model: str, size: int) -> dict[str, np.ndarray]:
    """Returns end point -> `sample_values` of the recorded tensors."""
    with np.load(FOLDER / f"{source}.npz") as kept:
        prefix = f"{model}/{size}/"
        return {name.removeprefix(prefix): kept[name] for name in kept if name.startswith(prefix)}
