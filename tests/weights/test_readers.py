"""Files of each format, as their own libraries write them, and as nobody should."""

import json
import pickle
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.weights.convert.readers import _caffe_message, hash_file, read_arrays

RNG = np.random.default_rng(0)


def test_the_weights_reader_keeps_the_names_dtypes_and_shapes_of_safetensors(tmp_path):
    save_file(
        {"a": np.ones((2, 3), np.float16), "b": np.zeros(4, np.float32)}, tmp_path / "a.safetensors"
    )
    found = read_arrays(tmp_path / "a.safetensors")
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "a": ("float16", (2, 3)),
        "b": ("float32", (4,)),
    }


@pytest.mark.parametrize("name", ["w.safetensors", "w.caffemodel", "w.h5", "w.keras"])
def test_the_weights_reader_refuses_truncated_files_and_files_of_another_format(tmp_path, name):
    h5py = pytest.importorskip("h5py")
    whole = tmp_path / f"whole_{name}"
    if name.endswith("safetensors"):
        save_file({"a": RNG.normal(size=(20, 20))}, whole)
    elif name.endswith("caffemodel"):
        whole.write_bytes(caffemodel().SerializeToString())
    else:
        with h5py.File(whole, "w") as opened:
            opened["layers/dense/vars/0"] = RNG.normal(size=(20, 20))
    (tmp_path / name).write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(DataError, match=name):
        read_arrays(tmp_path / name)
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=name):
        read_arrays(tmp_path / name)


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "none.ckpt", "none"])
def test_the_weights_reader_refuses_a_missing_file(tmp_path, name):
    with pytest.raises(DataError, match="is no file"):
        read_arrays(tmp_path / name)


def test_the_weights_reader_refuses_a_file_of_unknown_format(tmp_path):
    (tmp_path / "weights.txt").write_text("1 2 3")
    with pytest.raises(DataError, match="of no known format"):
        read_arrays(tmp_path / "weights.txt")


class Bomb:
    def __reduce__(self):
        return (open, ("ran", "w"))


def test_the_weights_reader_runs_no_code_from_a_pickle(tmp_path, monkeypatch):
    """Refused with PyTorch, and without it not even looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"weight": Bomb()}))
    with pytest.raises((DataError, ConfigError), match=r"refused|torch"):
        read_arrays(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def caffemodel():
    net = _caffe_message()()
    convolution = net.layer.add(name="conv", type="Convolution")
    for shape in ((4, 3, 2, 2), (4,)):
        blob = convolution.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend(range(int(np.prod(shape))))
    norm = net.layer.add(name="bn", type="BatchNorm")
    for values in ([10.0, 20.0], [30.0, 40.0], [10.0]):
        blob = norm.blobs.add()
        blob.shape.dim.append(len(values))
        blob.data.extend(values)
    scale = net.layer.add(name="scale", type="Scale")
    for values in ([1.0, 2.0], [3.0, 4.0]):
        scale.blobs.add(data=values, num=1, channels=1, height=1, width=2)
    old = net.layers.add(name="fc", type=14)
    old.blobs.add(data=range(6), num=1, channels=1, height=2, width=3)
    net.layers.add(name="relu", type=18)
    return net


def test_the_weights_reader_names_caffe_blobs_and_divides_batch_norm_sums_by_their_factor(tmp_path):
    (tmp_path / "w.caffemodel").write_bytes(caffemodel().SerializeToString())
    found = read_arrays(tmp_path / "w.caffemodel")
    assert {name: array.shape for name, array in found.items()} == {
        "conv/weights": (4, 3, 2, 2), "conv/biases": (4,), "bn/mean": (2,), "bn/variance": (2,),
        "scale/gamma": (2,), "scale/beta": (2,), "fc/weights": (2, 3),
    }  # fmt: skip
    np.testing.assert_allclose(found["bn/mean"], [1, 2])
    np.testing.assert_allclose(found["bn/variance"], [3, 4])
    np.testing.assert_array_equal(found["fc/weights"], [[0, 1, 2], [3, 4, 5]])


def layers():
    """Returns names of a process's second model in Keras: the first convolution is number 94."""
    return {
        "conv2d_95": {"kernel": RNG.normal(size=(1, 1, 2, 3))},
        "conv2d_94": {"kernel": RNG.normal(size=(3, 3, 1, 2)), "bias": RNG.normal(size=2)},
        "batch_normalization_94": {
            name: RNG.normal(size=2) for name in ("beta", "moving_mean", "moving_variance")
        },
        "post_bn": {
            name: RNG.normal(size=2) for name in ("gamma", "beta", "moving_mean", "moving_variance")
        },
        "predictions": {"kernel": RNG.normal(size=(3, 5)), "bias": RNG.normal(size=5)},
    }


EXPECTED = {
    "conv2d_95": "conv2d_1",
    "conv2d_94": "conv2d",
    "batch_normalization_94": "batch_normalization",
}


def keras_3(h5py, file, written):
    with h5py.File(file, "w") as opened:
        for i, (name, arrays) in enumerate(written.items()):
            group = opened.create_group(f"layers/layer_{i}/vars")
            group.attrs["name"] = name
            for j, value in enumerate(arrays.values()):
                group[str(j)] = value
        opened.create_group("layers/relu/vars")


@pytest.mark.parametrize("kind", ["w.weights.h5", "w.keras", "old.h5", "whole.h5"])
def test_the_weights_reader_gives_the_same_names_for_old_and_new_keras_files(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    written, file = layers(), tmp_path / kind
    if kind == "w.weights.h5":
        keras_3(h5py, file, written)
    elif kind == "w.keras":
        keras_3(h5py, tmp_path / "inner.h5", written)
        with zipfile.ZipFile(file, "w") as archive:
            archive.write(tmp_path / "inner.h5", "model.weights.h5")
            archive.writestr("config.json", json.dumps({}))
    else:
        with h5py.File(file, "w") as opened:
            root = opened.create_group("model_weights") if kind == "whole.h5" else opened
            root.attrs["layer_names"] = [name.encode() for name in [*written, "relu"]]
            root.create_group("relu").attrs["weight_names"] = []
            for name, arrays in written.items():
                group = root.create_group(name)
                group.attrs["weight_names"] = [f"{name}/{array}:0".encode() for array in arrays]
                for array, value in arrays.items():
                    group[f"{name}/{array}:0"] = value
    found = read_arrays(file)
    wanted = {
        f"{EXPECTED.get(name, name)}/{array}": value
        for name, arrays in written.items()
        for array, value in arrays.items()
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_sha256_hashes_a_file_and_is_empty_for_a_missing_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        hash_file(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert hash_file(tmp_path / "none") == ""


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    "named", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-{:05d}"]
)
def test_a_tensorflow_checkpoint_is_known_by_its_prefix_its_index_and_any_shard(
    tmp_path, monkeypatch, shards, named
):
    asked = []

    def library(name, extra):
        def load_checkpoint(prefix):
            asked.append(prefix)
            raise OSError("no table")

        return SimpleNamespace(train=SimpleNamespace(load_checkpoint=load_checkpoint))

    monkeypatch.setattr("inception_jax.weights.convert.readers.load_library", library)
    (tmp_path / "model.ckpt.index").write_bytes(b"index")
    for i in range(shards):
        (tmp_path / f"model.ckpt.data-{i:05d}-of-{shards:05d}").write_bytes(b"data")
    with pytest.raises(DataError, match=r"cannot be read as a TensorFlow checkpoint \(no table\)"):
        read_arrays(tmp_path / named.format(shards))
    assert asked == [str(tmp_path / "model.ckpt")]
