"""Keeps what the networks of other projects make of images, so that parity is tested without them.

    python -m tests.weights.record SOURCE

Weights are drawn by their names, so that nothing but activations is kept, 64 values of each tensor
and its largest. `recorded/<source>.json` has the versions that made them, and a hash of the names
and shapes of each network's arrays.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inception_jax.weights.reference.samples import make_test_images, sample_values
from tests.weights.references import MODELS, classes, heads, made, sizes, weights

FOLDER = Path(__file__).parent / "recorded"


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Returns the digest of a network's arrays by name, with their shapes."""
    return hashlib.sha256(
        json.dumps(sorted((name, list(shape)) for name, shape in shapes.items())).encode()
    ).hexdigest()


def record(source: str, models: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    tensors_file, facts_file = FOLDER / f"{source}.npz", FOLDER / f"{source}.json"
    tensors = dict(np.load(tensors_file)) if tensors_file.exists() else {}
    facts = json.loads(facts_file.read_text()) if facts_file.exists() else {}
    for model in models:
        for size in sizes(source, model):
            peer = made(source, model, size)
            found = peer.run(weights(source, peer.shapes), make_test_images(size), "float64")
            facts[model] = {
                "classes": classes(source, model),
                "aux": heads(source, model),
                "arrays": digest(peer.shapes),
            }
            tensors |= {
                f"{model}/{size}/{name}": sample_values(tensor) for name, tensor in found.items()
            }
            facts["made_by"] = peer.versions
            print(source, model, size, len(found), flush=True)
    np.savez_compressed(tensors_file, **tensors)
    facts_file.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    os.environ.update(KERAS_BACKEND="jax", JAX_ENABLE_X64="1")
    if sys.argv[1] == "keras":
        import keras

        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    record(sys.argv[1], sys.argv[2:] or MODELS[sys.argv[1]])
