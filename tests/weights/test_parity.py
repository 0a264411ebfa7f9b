"""The networks of other projects themselves, run beside ours: `pytest -m parity`, with the extra `parity` installed.

`matrix.json` is what has been measured: a cell that is in it must run, and be as near.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.peers import MODELS, sizes

pytestmark = [pytest.mark.parity, pytest.mark.slow]
MATRIX = Path(__file__).with_name("matrix.json")
LIVE = [source for source in MODELS if source != "tf_slim"]


def measure(source: str, model: str, size: int, dtype: str) -> dict[str, float]:
    """Errors by end point, over whole tensors; the best of `max|a - b| / max|b|` that a process of its own finds."""
    script = (
        "import json, sys\n"
        "import numpy as np\n"
        "source, model, size, dtype = sys.argv[1:]\n"
        "if source == 'keras':\n"
        "    import keras\n"
        "    keras.config.set_floatx(dtype)\n"
        "    keras.config.set_dtype_policy(dtype)\n"
        "from inception_jax.weights.activations import activations\n"
        "from inception_jax.weights.convert import ours\n"
        "from inception_jax.weights.samples import images\n"
        "from inception_jax.weights.sources import SOURCES\n"
        "from tests.weights.peers import made, weights\n"
        "peer = made(source, model, int(size))\n"
        "arrays = weights(source, peer.shapes)\n"
        "theirs = peer.run(arrays, images(int(size)), dtype)\n"
        "converted = ours(SOURCES[source][model], arrays)\n"
        "points = [name for name in theirs if not name.startswith(('logits', 'aux '))]\n"
        "found = activations(converted.network, converted.variables, images(int(size)), points, dtype)\n"
        "print(json.dumps({name: float(np.abs(found[name] - there).max() / np.abs(there).max()) for name, there in theirs.items()}))\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": str(int(dtype == "float64"))}
    run = subprocess.run([sys.executable, "-c", script, source, model, str(size), dtype], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


CELLS = [
    (source, model, size, dtype)
    for source in LIVE
    for model in MODELS[source]
    for size in sizes(source, model)
    for dtype in ("float32", "float64")
    if (source, dtype) != ("keras", "float64")  # its batch normalisation is float32 in any case
]


def test_every_cell_that_ran_before_runs():
    assert set(json.loads(MATRIX.read_text())["cells"]) <= {"/".join(map(str, cell)) for cell in CELLS}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell)))
def test_every_end_point(cell):
    errors = measure(*cell)
    assert max(errors.values()) <= {"float32": 2e-5, "float64": 1e-9}[cell[-1]], errors


if __name__ == "__main__":  # makes the matrix
    cells = {"/".join(map(str, cell)): max(measure(*cell).values()) for cell in CELLS if print(*cell, flush=True) is None}
    from importlib.metadata import version

    packages = ("jax", "torch", "torchvision", "timm", "keras", "pytorch-fid", "facenet-pytorch")
    MATRIX.write_text(json.dumps({"versions": {name: version(name) for name in packages}, "cells": cells}, indent=1) + "\n")
