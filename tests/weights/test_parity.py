"""The networks of other projects themselves, run beside ours: `pytest -m parity`, with the extra
`parity` installed.

`matrix.json` has what was measured in both precisions (`python -m tests.weights.test_parity` makes
it, in 20 minutes). Here it is done again in float64, which proves the graph, and in float32 where
Keras can do no other (its batch normalisation): a network that is in the matrix must run, or this
fails. Float32 is held to recordings in every run of the tests (test_recorded), and TF-Slim, which
wants an environment of its own, in both.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.weights.references import MODELS, sizes

pytestmark = [pytest.mark.parity, pytest.mark.slow]
MATRIX = Path(__file__).with_name("matrix.json")
BOUNDS = {"float32": 2e-5, "float64": 1e-9}
LIVE = [(source, model) for source in MODELS if source != "tf_slim" for model in MODELS[source]]


def best(source: str) -> str:
    """The precision in which a project can be run."""
    return "float32" if source == "keras" else "float64"


MEASURE = """
import json, sys
import numpy as np
source, model, dtype = sys.argv[1:]
if source == "keras":
    import keras
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
from inception_jax.weights.reference.activations import compute_activations
from inception_jax.weights.convert.conversion import to_ours
from inception_jax.weights.reference.samples import make_test_images
from inception_jax.weights.convert.sources import SOURCES
from tests.weights.references import made, sizes, weights
measured = {}
for size in sizes(source, model):
    peer = made(source, model, size)
    arrays = weights(source, peer.shapes)
    theirs = peer.run(arrays, make_test_images(size), dtype)
    converted = to_ours(SOURCES[source][model], arrays)
    points = [name for name in theirs if not name.startswith(("logits", "aux "))]
    found = compute_activations(
        converted.network, converted.variables, make_test_images(size), points, dtype
    )
    measured[size] = {
        name: float(np.abs(found[name] - there).max() / np.abs(there).max())
        for name, there in theirs.items()
    }
print(json.dumps(measured))
"""


def measure(source: str, model: str, dtype: str) -> dict[str, dict[str, float]]:
    """Size -> end point -> max|a - b| / max|b| over the whole tensor, found by a process of its
    own.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_ENABLE_X64": str(int(dtype == "float64")),
    }
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, source, model, dtype],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_the_parity_matrix_lists_exactly_the_networks_that_are_run():
    cells = {
        f"{source}/{model}/{size}/{best(source)}"
        for source, model in LIVE
        for size in sizes(source, model)
    }
    before = {
        cell
        for cell in json.loads(MATRIX.read_text())["cells"]
        if cell.endswith(best(cell.partition("/")[0]))
    }
    assert before == cells


@pytest.mark.parametrize(("source", "model"), LIVE)
def test_every_end_point_matches_the_reference_network_at_two_sizes(source, model):
    for size, errors in measure(source, model, best(source)).items():
        assert len(errors) > 8
        assert max(errors.values()) <= BOUNDS[best(source)], (size, errors)


if __name__ == "__main__":
    cells = {}
    for source, model, dtype in [
        (*one, dtype) for one in LIVE for dtype in dict.fromkeys(("float32", best(one[0])))
    ]:
        for size, errors in measure(source, model, dtype).items():
            cells[f"{source}/{model}/{size}/{dtype}"] = max(errors.values())
            print(
                source,
                model,
                size,
                dtype,
                len(errors),
                cells[f"{source}/{model}/{size}/{dtype}"],
                flush=True,
            )
    packages = ("jax", "torch", "torchvision", "timm", "keras", "pytorch-fid", "facenet-pytorch")
    versions = {name: version(name) for name in packages}
    MATRIX.write_text(
        json.dumps(
            {
                "measured": "max|a - b| / max|b|, the worst end point",
                "versions": versions,
                "cells": cells,
            },
            indent=1,
        )
        + "\n"
    )
