"""Ids of the table with the networks of full size, from a hub on the loopback address.

The arrays are random, in the release's own names, shapes and file format; the digests of the table
are replaced by theirs.
"""

import hashlib
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

import inception_jax
from inception_jax.weights.convert.conversion import list_shapes
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.releases import RELEASES
from tests.conftest import ROOT
from tests.weights.hub_server import serve
from tests.weights.test_convert import drawn

# A user's command with the digest of a release replaced; it ends with 3 if PyTorch was imported.
COMMAND = """
import sys
from dataclasses import replace
from inception_jax.weights import hub
url, sha256, id = sys.argv[1:4]
row = replace(hub._BY_ID[id], sha256=sha256, url=url if hub._BY_ID[id].url else "")
hub._BY_ID[id] = row
hub.RELEASES = tuple(row if one.id == id else one for one in hub.RELEASES)
sys.modules["torch"] = None
from inception_jax.cli import main
sys.exit(main(["predict", id, *sys.argv[4:]]))
"""


def write_pth(arrays):
    """Returns a state_dict in PyTorch's format, written by hand: opcodes of protocol 2."""

    def text(value):
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    def integers(values):
        return b"(" + b"".join(b"J" + n.to_bytes(4, "little") for n in values) + b"t"

    pickled, file = io.BytesIO(), io.BytesIO()
    pickled.write(b"\x80\x02}(")
    with zipfile.ZipFile(file, "w") as archive:
        for key, (name, value) in enumerate(arrays.items()):
            strides = [step // value.itemsize for step in np.ascontiguousarray(value).strides]
            count = b"J" + value.size.to_bytes(4, "little")
            storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(key))
            storage += text("cpu") + count + b"tQ"
            tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J\0\0\0\0"
            tensor += integers(value.shape) + integers(strides) + b"\x89}tR"
            pickled.write(text(name) + tensor)
            archive.writestr(f"archive/data/{key}", value.astype("<f4").tobytes())
        archive.writestr("archive/data.pkl", pickled.getvalue() + b"u.")
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "id", ["timm/inception_v3.tv_in1k", "torchvision/inception_v3.imagenet1k_v1"]
)
def test_a_release_names_a_picture_from_an_empty_cache_in_a_line(id, tmp_path, monkeypatch):
    source, release = id.partition("/")[0], next(row for row in RELEASES if row.id == id)
    there = SOURCES[source]["inception_v3"]
    network = inception_jax.create("inception_v3", variant=there.variant, aux=True)
    rows = list(there.arrays(list_shapes(network)))
    wanted = {row.theirs: row.layout.shape for row in rows}
    arrays = {name: value.astype(np.float32) for name, value in drawn(source, wanted).items()}
    content = save(arrays) if release.repository else write_pth(arrays)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)).save(
        tmp_path / "cat.jpg"
    )
    monkeypatch.setenv("INCEPTION_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        place = f"/{release.repository}/resolve/main" if release.repository else ""
        server.files[f"{place}/{release.file}"] = content
        digest = hashlib.sha256(content).hexdigest()
        line = [sys.executable, "-c", COMMAND, f"{server.address}/{release.file}", digest, id]
        done = subprocess.run(
            [*line, str(tmp_path / "cat.jpg"), "--json"], cwd=ROOT, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    guesses = json.loads(done.stdout)[0]["classes"]
    assert len(guesses) == 3
    assert all(0 < guess["probability"] < 1 for guess in guesses)
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    found = inception_jax.load(file)
    for ours, theirs in (("Conv2d_1a_3x3", "Conv2d_1a_3x3"), ("Conv2d_2b_3x3", "Conv2d_2b_3x3")):
        kernel = found["params"][ours]["conv_3x3"]["kernel"]
        wanted = arrays[f"{theirs}.conv.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(kernel, wanted)
