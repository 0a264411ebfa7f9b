"""Files as the projects write them, through `inception-jax convert`: `pytest -m parity`."""

import argparse
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import inception_jax
from inception_jax import weights
from inception_jax.weights.convert.conversion import list_shapes, to_ours
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.reference.reference_models import make_reference
from tests.conftest import ROOT
from tests.weights.references import weights as drawn

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def convert(tmp_path, file, source, model, code=0, *options):
    """In a process of its own, since Keras and TensorFlow want to be the first."""
    line = [
        "convert",
        str(file),
        "--from",
        source,
        "--model",
        model,
        "--output",
        "w.safetensors",
        *options,
    ]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        "JAX_ENABLE_X64": "0",
    }
    run = subprocess.run(
        [sys.executable, "-m", "inception_jax.cli", *line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == code, run.stderr
    return run.stdout + run.stderr


@pytest.mark.parametrize("wrapped", [False, True])
def test_convert_reads_plain_and_wrapped_torchvision_state_dicts(tmp_path, wrapped):
    torch = pytest.importorskip("torch")
    make_reference(
        "torchvision", "resnet18", classes=1000, aux=False, image_size=224
    )  # so that torchvision imports
    from torchvision.models import resnet18

    network = resnet18()
    state = network.state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in state.items()}}
        if wrapped
        else state,
        tmp_path / "w.pth",
    )
    said = convert(tmp_path, "w.pth", "torchvision", "resnet18")
    assert "against torchvision itself (torch 2" in said
    kept = inception_jax.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(
        kept["params"]["Logits"]["linear"]["kernel"], state["fc.weight"].numpy().T
    )
    assert max(weights.card(tmp_path / "w.safetensors").parity["errors"].values()) < 2e-5


def test_convert_refuses_code_in_a_pickle_and_does_not_run_it(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    import torch

    torch.save({"fc.weight": Bomb()}, tmp_path / "zipped.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"fc.weight": Bomb()}, protocol=2))
    for name in ("zipped.pth", "bare.pth"):
        assert "could run code, and is refused" in convert(
            tmp_path, name, "torchvision", "resnet18", 65
        )
    (tmp_path / "cut.pth").write_bytes((tmp_path / "zipped.pth").read_bytes()[:100])
    assert "cut.pth cannot be read" in convert(tmp_path, "cut.pth", "torchvision", "resnet18", 65)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "w.safetensors").exists()


class Hyperparameters:
    """A class of a trainer's own, which need not be there where the file is read."""

    def __init__(self):
        self.lr = 0.1


def training_checkpoint(state):
    """Returns a checkpoint as timm's, Lightning's and PyTorch's own examples save it."""
    return {
        "epoch": 3, "arch": "resnet18", "state_dict": state, "best_acc1": np.float64(0.7),
        "args": argparse.Namespace(lr=0.1, opt="sgd"), "hyper_parameters": Hyperparameters(),
        "folder": pathlib.PurePosixPath("/x"), "optimizer": {"state": {0: {"m": torch_zeros()}}},
    }  # fmt: skip


def torch_zeros():
    import torch

    return torch.zeros(3)


@pytest.mark.parametrize("name", ["last.ckpt", "model_best.pth.tar", "w.anything"])
def test_the_checkpoint_of_a_training_loop_is_read_with_any_name_and_any_other_contents(
    tmp_path, name
):
    import torch

    make_reference("torchvision", "resnet18", classes=1000, aux=False, image_size=224)
    from torchvision.models import resnet18

    state = resnet18(num_classes=7).state_dict()
    averaged = {
        f"module.{key}": value * 2 if value.is_floating_point() else value
        for key, value in state.items()
    }
    torch.save(
        training_checkpoint({f"model.{key}": value for key, value in state.items()})
        | {"model_ema": averaged},
        tmp_path / name,
    )
    (tmp_path / "names.txt").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join("abcdefg").encode() + b"\r\n"
    )
    said = convert(tmp_path, name, "torchvision", "resnet18", 0, "--class-names", "names.txt")
    assert (
        "the averaged ones are taken (model_ema module.*), not the raw ones (state_dict model.*)"
        in said
    )
    assert "release not known: assumed what torchvision feeds such networks" in said
    found = inception_jax.load(tmp_path / "w.safetensors")["params"]["Logits"]["linear"]["kernel"]
    np.testing.assert_array_equal(found, 2 * state["fc.weight"].numpy().T)
    assert weights.card(tmp_path / "w.safetensors").names == tuple("abcdefg")
    convert(
        tmp_path,
        name,
        "torchvision",
        "resnet18",
        0,
        "--class-names",
        "names.txt",
        "--parameters",
        "raw",
    )
    found = inception_jax.load(tmp_path / "w.safetensors")["params"]["Logits"]["linear"]["kernel"]
    np.testing.assert_array_equal(found, state["fc.weight"].numpy().T)


def test_convert_refuses_whole_networks_lists_and_tensors_that_are_larger_than_their_file(tmp_path):
    import torch

    torch.save([1, 2, 3], tmp_path / "list.pth")
    assert "holds a list; wanted is a state dict" in convert(
        tmp_path, "list.pth", "torchvision", "resnet18", 65
    )
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "empty.pth")
    assert "at its top level are" in convert(tmp_path, "empty.pth", "torchvision", "resnet18", 65)
    torch.save({"conv1.weight": torch.zeros(1).expand(40_000, 40_000)}, tmp_path / "wide.pth")
    assert "says that it holds 6,400,000,000 bytes" in convert(
        tmp_path, "wide.pth", "torchvision", "resnet18", 65
    )
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    assert "could run code, and is refused" in convert(
        tmp_path, "module.pth", "torchvision", "resnet18", 65
    )


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
    subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path)],
        check=True,
        env=environment,
        capture_output=True,
    )
    first = None
    for name in ("w.keras", "w.weights.h5", "old.h5"):
        assert "against keras itself (keras 3" in convert(tmp_path, name, "keras", "inception_v3")
        found = flatten_dict(inception_jax.load(tmp_path / "w.safetensors"), sep="/")
        np.testing.assert_array_equal(
            found["params/Logits/linear/kernel"], np.load(tmp_path / "kernel.npy")
        )
        first = first or found
        assert all(np.array_equal(value, first[path]) for path, value in found.items())


SAVER = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
from safetensors.numpy import load_file
tf.disable_eager_execution()
arrays = load_file(sys.argv[1] + "/arrays.safetensors")
variables = [
    tf.get_variable(name, initializer=value, use_resource=False) for name, value in arrays.items()
]
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
    arrays = drawn(
        "tf_slim",
        {array.theirs: array.layout.shape for array in origin.arrays(list_shapes(network))},
    )
    save_file(
        {name: value.astype(np.float32) for name, value in arrays.items()},
        tmp_path / "arrays.safetensors",
    )
    subprocess.run([sys.executable, "-c", SAVER, str(tmp_path)], check=True, capture_output=True)
    wanted = flatten_dict(
        to_ours(origin, load_file(tmp_path / "arrays.safetensors")).variables, sep="/"
    )
    for name in ("one.ckpt", "two.ckpt"):
        assert "1001 classes, ImageNet's from number 1" in convert(
            tmp_path, name, "tf_slim", "inception_v1"
        )
        found = flatten_dict(inception_jax.load(tmp_path / "w.safetensors"), sep="/")
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[path], value) for path, value in wanted.items())
