"""Files as the projects themselves write them, through `inception-jax convert`: `pytest -m parity`."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import inception_jax
from inception_jax import weights
from inception_jax.weights.convert import ours, shapes
from inception_jax.weights.projects import peer
from inception_jax.weights.sources import SOURCES
from inception_jax.weights.tree import flat
from tests.conftest import ROOT
from tests.weights.peers import weights as drawn

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def convert(tmp_path, file, source, model, code=0, *options):
    """In a process of its own, since Keras and TensorFlow want to be the first."""
    line = ["convert", str(file), "--from", source, "--model", model, "--output", "w.safetensors", *options]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "JAX_ENABLE_X64": "0"}
    run = subprocess.run([sys.executable, "-m", "inception_jax.cli", *line], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == code, run.stderr
    return run.stdout + run.stderr


@pytest.mark.parametrize("wrapped", [False, True])
def test_convert_reads_plain_and_wrapped_torchvision_state_dicts(tmp_path, wrapped):
    torch = pytest.importorskip("torch")
    peer("torchvision", "resnet18", classes=1000, aux=False, image_size=224)  # so that torchvision imports
    from torchvision.models import resnet18

    network = resnet18()
    state = network.state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}} if wrapped else state, tmp_path / "w.pth")
    said = convert(tmp_path, "w.pth", "torchvision", "resnet18")
    assert "against torchvision itself (torch 2" in said
    kept = inception_jax.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(kept["params"]["Logits"]["linear"]["kernel"], state["fc.weight"].numpy().T)
    assert max(weights.card(tmp_path / "w.safetensors").parity["errors"].values()) < 2e-5


def test_convert_refuses_code_in_a_pickle_and_does_not_run_it(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    import torch

    torch.save({"fc.weight": Bomb()}, tmp_path / "zipped.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"fc.weight": Bomb()}, protocol=2))
    for name in ("zipped.pth", "bare.pth"):
        assert "could run code, and is refused" in convert(tmp_path, name, "torchvision", "resnet18", 65)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "zipped.pth").read_bytes()[:100])
    assert "cut.pth cannot be read" in convert(tmp_path, "cut.pth", "torchvision", "resnet18", 65)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "w.safetensors").exists()


KERAS = """
import keras, numpy as np, sys
keras.layers.Conv2D(2, 1).build((1, 4, 4, 2))  # so that numbers do not begin at 0
network = keras.applications.InceptionV3(weights=None)
network.save(sys.argv[1] + "/w.keras")
network.save_weights(sys.argv[1] + "/w.weights.h5")
network.save(sys.argv[1] + "/old.h5")
np.save(sys.argv[1] + "/kernel.npy", network.get_layer("predictions").kernel.value)
"""


def test_convert_reads_the_three_weight_formats_of_keras(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "0"}
    subprocess.run([sys.executable, "-c", KERAS, str(tmp_path)], check=True, env=environment, capture_output=True)
    first = None
    for name in ("w.keras", "w.weights.h5", "old.h5"):
        assert "against keras itself (keras 3" in convert(tmp_path, name, "keras", "inception_v3")
        found = flat(inception_jax.load(tmp_path / "w.safetensors"))
        np.testing.assert_array_equal(found["params/Logits/linear/kernel"], np.load(tmp_path / "kernel.npy"))
        first = first or found
        assert all(np.array_equal(value, first[path]) for path, value in found.items())


SAVER = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
from safetensors.numpy import load_file
tf.disable_eager_execution()
arrays = load_file(sys.argv[1] + "/arrays.safetensors")
variables = [tf.get_variable(name, initializer=value, use_resource=False) for name, value in arrays.items()]
variables.append(tf.get_variable("global_step", initializer=np.int64(7), use_resource=False))
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for version, name in ((tf.train.SaverDef.V1, "one.ckpt"), (tf.train.SaverDef.V2, "two.ckpt")):
        tf.train.Saver(variables, write_version=version).save(session, sys.argv[1] + "/" + name)
"""


def test_convert_reads_tensorflow_checkpoints_of_versions_1_and_2(tmp_path):
    pytest.importorskip("tensorflow")
    from safetensors.numpy import save_file

    origin = SOURCES["tf_slim"]["googlenet"]
    network = inception_jax.create("googlenet", variant="tf_slim", num_classes=1001)
    arrays = drawn("tf_slim", {array.theirs: array.layout.shape for array in origin.arrays(shapes(network))})
    save_file({name: value.astype(np.float32) for name, value in arrays.items()}, tmp_path / "arrays.safetensors")
    subprocess.run([sys.executable, "-c", SAVER, str(tmp_path)], check=True, capture_output=True)
    wanted = flat(ours(origin, load_file(tmp_path / "arrays.safetensors")).variables)
    for name in ("one.ckpt", "two.ckpt"):
        assert "1001 classes, ImageNet's from number 1" in convert(tmp_path, name, "tf_slim", "inception_v1")
        found = flat(inception_jax.load(tmp_path / "w.safetensors"))
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[path], value) for path, value in wanted.items())
