"""The networks of other projects themselves, run beside ours: `pytest -m parity`, with the extra `parity` installed.

`matrix.json` has what was measured (`python -m tests.weights.test_parity` makes it): a cell that is in it must run, or this fails.
TF-Slim runs in an environment of its own: its row is of what was recorded there.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.weights.peers import MODELS, sizes

pytestmark = [pytest.mark.parity, pytest.mark.slow]
MATRIX = Path(__file__).with_name("matrix.json")
BOUNDS = {"float32": 2e-5, "float64": 1e-9}
CELLS = [
    (source, model, dtype)
    for source in MODELS
    if source != "tf_slim"
    for model in MODELS[source]
    for dtype in BOUNDS
    if (source, dtype) != ("keras", "float64")  # its batch normalisation is float32 in any case
]
MEASURE = """
import json, sys
import numpy as np
source, model, dtype = sys.argv[1:]
if source == "keras":
    import keras
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
from inception_jax.weights.activations import activations
from inception_jax.weights.convert import ours
from inception_jax.weights.samples import images
from inception_jax.weights.sources import SOURCES
from tests.weights.peers import made, sizes, weights
measured = {}
for size in sizes(source, model):
    peer = made(source, model, size)
    arrays = weights(source, peer.shapes)
    theirs = peer.run(arrays, images(size), dtype)
    converted = ours(SOURCES[source][model], arrays)
    points = [name for name in theirs if not name.startswith(("logits", "aux "))]
    found = activations(converted.network, converted.variables, images(size), points, dtype)
    measured[size] = {name: float(np.abs(found[name] - there).max() / np.abs(there).max()) for name, there in theirs.items()}
print(json.dumps(measured))
"""


def measure(source: str, model: str, dtype: str) -> dict[str, dict[str, float]]:
    """Size -> end point -> max|a - b| / max|b| over the whole tensor, found by a process of its own."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": str(int(dtype == "float64"))}
    run = subprocess.run([sys.executable, "-c", MEASURE, source, model, dtype], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_every_cell_that_ran_before_is_still_run():
    cells = {f"{source}/{model}/{size}/{dtype}" for source, model, dtype in CELLS for size in sizes(source, model)}
    assert set(json.loads(MATRIX.read_text())["cells"]) == cells


@pytest.mark.parametrize(("source", "model", "dtype"), CELLS)
def test_every_end_point_of_the_network_itself_at_two_sizes(source, model, dtype):
    for size, errors in measure(source, model, dtype).items():
        assert len(errors) > 8
        assert max(errors.values()) <= BOUNDS[dtype], (size, errors)


if __name__ == "__main__":
    cells = {}
    for source, model, dtype in CELLS:
        for size, errors in measure(source, model, dtype).items():
            cells[f"{source}/{model}/{size}/{dtype}"] = max(errors.values())
            print(source, model, size, dtype, len(errors), cells[f"{source}/{model}/{size}/{dtype}"], flush=True)
    packages = ("jax", "torch", "torchvision", "timm", "keras", "pytorch-fid", "facenet-pytorch")
    versions = {name: version(name) for name in packages}
    MATRIX.write_text(
        json.dumps({"measured": "max|a - b| / max|b|, the worst end point", "versions": versions, "cells": cells}, indent=1) + "\n"
    )
