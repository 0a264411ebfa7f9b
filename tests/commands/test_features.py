"""`features`: the file that it writes, and how it continues after it was stopped."""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from inception_jax.config import Data, Model
from inception_jax.nn.create import create
from inception_jax.weights import feature_file, files
from inception_jax.weights.cards import Card
from inception_jax.weights.predictor import Predictor
from tests.conftest import ROOT

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow
BAD = (0, 13)
"""Indices of the unreadable images."""
FLAGS = ("--import", "benchmarks.registered", "--batch-size", "4")

STOPPED = """
import os, sys, time
from inception_jax.cli import entry
from inception_jax.weights import feature_file

number = int(sys.argv.pop())
parts, append = [], feature_file._FeatureStore.append

def stop(self, rows):
    if len(parts) == 2:
        os.kill(os.getpid(), number)
        time.sleep(60)
    append(self, rows)
    parts.append(len(rows))

feature_file._FeatureStore.append = stop
feature_file.PART_IMAGES = 8
entry()
"""
"""Runs the command, and gets a signal when it has two parts of 8 images."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    network = create("mixed", num_classes=10)
    folder = tmp_path_factory.mktemp("weights")
    for seed in (0, 1):
        variables = network.init(jax.random.key(seed), np.zeros((1, 16, 16, 3), np.float32))
        card = Card(Model("mixed"), Data(image_size=16), 10, tuple("abcdefghij"))
        files.save(folder / f"{seed}.safetensors", card, jax.tree.map(np.asarray, variables))
    return folder


@pytest.fixture
def images(tmp_path):
    """Returns the names of 27 images from the test's folder, two of them unreadable."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(27):
        file = tmp_path / "images" / f"{i:02d}.png"
        Image.fromarray(rng.integers(0, 256, (20, 16, 3), np.uint8)).save(file)
        if i in BAD:
            file.write_bytes(b"no image")
    return [f"images/{i:02d}.png" for i in range(27)]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(feature_file, "PART_IMAGES", 8)


@pytest.fixture
def compute(command, weights):
    """Runs `features` on the weights of a seed."""

    def run(*arguments, seed=0):
        return command("features", weights / f"{seed}.safetensors", *arguments, *FLAGS)

    return run


def stop(tmp_path, weights, output, number):
    """Returns the exit code of the command, stopped by a signal after two parts."""
    line = ["features", str(weights / "0.safetensors"), "images", "--output", output, *FLAGS]
    process = subprocess.run(
        [sys.executable, "-c", STOPPED, *line, str(int(number))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=240,
    )
    return process.returncode


def test_parquet_and_npz_hold_the_predictors_features_with_names_in_the_order_given(
    compute, weights, images, tmp_path
):
    names = images[20:] + images[:20]
    predictor = Predictor(weights / "0.safetensors", batch_size=4)
    good = [name for i, name in enumerate(images[20:] + images[:20]) if (i + 20) % 27 not in BAD]
    for end_point in (None, "Stem"):
        flags = ("--end-point", end_point) if end_point else ()
        for file in ("f.npz", "f.parquet"):
            done = compute(*names, "--output", file, *flags)
            assert done.returncode == 65
            assert "2 of 27 images could not be read\nimages/00.png: " in done.stderr
        wanted = predictor.features([tmp_path / name for name in good], end_point)
        table = parquet.read_table(tmp_path / "f.parquet")
        assert table.column_names == ["image", "features"]
        assert table["image"].to_pylist() == good
        rows = table["features"].combine_chunks().flatten().to_numpy().reshape(wanted.shape)
        np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-6)
        with np.load(tmp_path / "f.npz") as found:
            assert sorted(found) == ["features", "images"]
            assert found["images"].tolist() == good
            assert np.array_equal(found["features"], rows)
        assert f"{' x '.join(map(str, wanted.shape))}" in done.stdout
        assert not list(tmp_path.glob("*.part"))


def test_a_parquet_file_names_network_weights_end_point_shape_and_preprocessing(
    compute, weights, images, tmp_path
):
    assert compute(images[1], "--end-point", "Stem", "--output", "f.parquet").returncode == 0
    file = parquet.ParquetFile(tmp_path / "f.parquet")
    facts = json.loads(file.schema_arrow.metadata[b"inception_jax"])
    assert facts["network"]["name"] == "mixed"
    assert facts["digest"] == files.read_card(weights / "0.safetensors").digest
    assert (facts["end_point"], facts["shape"]) == ("Stem", [8, 8, 8])
    assert facts["preprocessing"]["image_size"] == 16
    assert facts["versions"]["jax"] == jax.__version__
    assert not file.schema_arrow.field("features").nullable


def test_row_groups_bound_the_memory_that_features_take(compute, images, tmp_path, monkeypatch):
    """Row groups have whole batches of at most `PART_IMAGES` images and `PART_BYTES` bytes."""
    compute("images", "--output", "f.parquet")
    groups = parquet.ParquetFile(tmp_path / "f.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [7, 7, 8, 3]
    monkeypatch.setattr(feature_file, "PART_BYTES", 4 * 8 * 8 * 8 * 4)
    compute("images", "--end-point", "Stem", "--output", "f.parquet")
    groups = parquet.ParquetFile(tmp_path / "f.parquet").metadata
    assert groups.num_row_groups == 7


@pytest.mark.parametrize(
    ("output", "number", "code"),
    [("f.parquet", signal.SIGKILL, -9), ("f.parquet", signal.SIGTERM, 75),
     ("f.npz", signal.SIGKILL, -9)],
)  # fmt: skip
def test_a_stopped_command_continues_after_its_last_part_to_the_same_bytes(
    compute, weights, images, tmp_path, output, number, code
):
    assert stop(tmp_path, weights, output, number) == code
    assert not (tmp_path / output).exists()
    done = compute("images", "--output", output)
    assert f"16 of 27 images are in {output}.part already" in done.stderr
    assert "2 of 27 images could not be read\nimages/00.png: " in done.stderr
    continued = (tmp_path / output).read_bytes()
    assert not (tmp_path / f"{output}.part").exists()
    assert "already" not in compute("images", "--output", output).stderr
    assert (tmp_path / output).read_bytes() == continued


def test_parts_of_another_request_are_refused_and_kept(compute, weights, images, tmp_path):
    stop(tmp_path, weights, "f.parquet", signal.SIGKILL)
    parts = sorted((tmp_path / "f.parquet.part").iterdir())
    for what, arguments, seed in (
        ("weights", ("images",), 1),
        ("end point", ("images", "--end-point", "Stem"), 0),
        ("images", images[1:], 0),
        ("preprocessing", ("images", "--orientation", "ignore"), 0),
    ):
        done = compute(*arguments, "--output", "f.parquet", seed=seed)
        assert done.returncode == 78
        assert f"f.parquet.part has features of another request (other {what})" in done.stderr
    assert sorted((tmp_path / "f.parquet.part").iterdir()) == parts
    part = tmp_path / "f.parquet.part" / "0000000008.npz"
    part.write_bytes(part.read_bytes()[:-40])
    done = compute("images", "--output", "f.parquet")
    assert (done.returncode, f"{part.name} cannot be read" in done.stderr) == (65, True)
    part.unlink()
    assert "8 of 27 images are in" in compute("images", "--output", "f.parquet").stderr
    assert parquet.read_table(tmp_path / "f.parquet").num_rows == 25


def test_features_of_unreadable_images_alone_leave_no_file_and_no_folder(compute, images, tmp_path):
    done = compute(images[0], images[13], "--output", "f.parquet")
    assert (done.returncode, images[0] in done.stderr) == (65, True)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_features_names_its_formats_and_the_extra_of_a_missing_library(
    compute, images, monkeypatch
):
    done = compute(images[1], "--output", "f.csv")
    assert done.returncode == 78
    assert ".npz (NumPy) or .parquet" in done.stderr
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    done = compute(images[1], "--output", "f.parquet")
    assert done.returncode == 78
    assert "pip install 'inception-jax[parquet]'" in done.stderr


def test_features_on_eight_devices_equal_those_on_one(compute, images, process, weights, tmp_path):
    compute("images", "--output", "one.npz")
    line = ("features", weights / "0.safetensors", "images", "--output", "eight.npz", *FLAGS)
    assert process(*line, JAX_NUM_CPU_DEVICES="8").returncode == 65
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "eight.npz") as eight:
        assert one["images"].tolist() == eight["images"].tolist()
        np.testing.assert_allclose(one["features"], eight["features"], rtol=1e-5, atol=1e-6)
