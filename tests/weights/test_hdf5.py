"""Keras's files: networks within networks, links out of the file, and declared sizes."""

import resource
import zipfile

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.weights.convert.readers import read_arrays

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
INNER = {
    "conv2d": {"kernel": RNG.normal(size=(3, 3, 1, 2))},
    "batch_normalization": {
        name: RNG.normal(size=2) for name in ("beta", "moving_mean", "moving_variance")
    },
}
OUTER = {"dense": {"kernel": RNG.normal(size=(2, 5)), "bias": RNG.normal(size=5)}}
EXPECTED = {
    f"{layer}/{name}": value
    for layer, arrays in {**INNER, **OUTER}.items()
    for name, value in arrays.items()
}


def keras_3(group, layers):
    for i, (name, arrays) in enumerate(layers.items()):
        variables = group.create_group(f"layers/layer_{i}/vars")
        variables.attrs["name"] = name
        for j, value in enumerate(arrays.values()):
            variables[str(j)] = value


def nested(file):
    with h5py.File(file, "w") as opened:
        keras_3(opened, {"input": {}, **OUTER})
        inner = opened["layers"].create_group("functional")
        inner.create_group("vars")
        keras_3(inner, INNER)


def same(found):
    assert found.keys() == EXPECTED.keys()
    for name, value in EXPECTED.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("kind", ["a.weights.h5", "a.keras", "old.h5"])
def test_a_keras_network_within_a_network_is_read(tmp_path, kind):
    file = tmp_path / kind
    if kind == "old.h5":
        with h5py.File(file, "w") as opened:
            opened.attrs["layer_names"] = [b"functional_1", b"dense"]
            for layer, parts in (("functional_1", INNER), ("dense", OUTER)):
                group = opened.create_group(layer)
                names = [
                    f"{owner}/{array}:0" for owner, arrays in parts.items() for array in arrays
                ]
                group.attrs["weight_names"] = [name.encode() for name in names]
                for name in names:
                    owner, _, array = name.partition("/")
                    group[name] = parts[owner][array.partition(":")[0]]
    elif kind == "a.keras":
        nested(tmp_path / "inner.h5")
        with zipfile.ZipFile(file, "w") as archive:
            archive.write(tmp_path / "inner.h5", "model.weights.h5")
    else:
        nested(file)
    same(read_arrays(file))


@pytest.mark.parametrize("kind", ["external link", "soft link", "external data", "virtual data"])
def test_hdf5_that_leads_out_of_its_file_is_refused(tmp_path, kind):
    """With each of them a file of weights took 16 bytes of another file for a bias."""
    secret = np.arange(2, dtype=np.float64)
    (tmp_path / "secret").write_bytes(secret.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as opened:
        opened["x"] = secret
    with h5py.File(tmp_path / "w.h5", "w") as opened:
        keras_3(opened, {"conv2d": INNER["conv2d"]})
        variables = opened["layers/layer_0/vars"]
        if kind == "external link":
            variables["1"] = h5py.ExternalLink("secret.h5", "/x")
        elif kind == "soft link":
            variables["1"] = h5py.SoftLink("/layers/layer_0/vars/0")
        elif kind == "external data":
            variables.create_dataset(
                "1", shape=(2,), dtype="f8", external=[(str(tmp_path / "secret"), 0, 16)]
            )
        else:
            layout = h5py.VirtualLayout(shape=(2,), dtype="f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", shape=(2,))
            variables.create_virtual_dataset("1", layout)
    with pytest.raises(DataError, match=r"w\.h5: /layers/layer_0/vars/1 .*and is refused"):
        read_arrays(tmp_path / "w.h5")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("kind", ["chunks that were never written", "compressed zeros", "archive"])
def test_a_keras_file_that_expands_is_refused_before_it_takes_memory(tmp_path, kind):
    file, before = tmp_path / "w.h5", peak()
    with h5py.File(file, "w") as opened:
        variables = opened.create_group("layers/a/vars")
        variables.attrs["name"] = "conv2d"
        options = (
            {"chunks": (1024, 1024)}
            if kind.startswith("chunks")
            else {"compression": "gzip", "chunks": (1024, 1024)}
        )
        side = 23_000 if kind.startswith("chunks") else 2048
        variables.create_dataset("0", shape=(side, side), dtype="f4", **options)
        if kind == "compressed zeros":
            variables["0"][:] = 0
    if kind == "archive":
        with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.weights.h5", bytes(2**26))
        file = tmp_path / "w.keras"
    if kind == "compressed zeros":
        assert read_arrays(file).keys() == {"conv2d/kernel"}  # 16 MB, which any file may have
        return
    with pytest.raises(DataError, match=r"says that it holds .* bytes, and has"):
        read_arrays(file)
    assert peak() - before < 300_000  # KB
