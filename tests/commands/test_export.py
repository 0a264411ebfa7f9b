"""The names of exports, and the files that they do not replace."""

import pytest

from inception_jax.commands.export import default_name
from tests.test_old_run import OLD


@pytest.mark.parametrize(
    ("weights", "form", "name"),
    [
        ("runs/digits", "stablehlo", "digits.stablehlo"),
        ("runs/digits/", "onnx", "digits.onnx"),
        ("runs/digits@500", "safetensors", "digits@500.safetensors"),
        ("gs://bucket/photos", "savedmodel", "photos.savedmodel"),
        ("files/v3.safetensors", "timm", "v3.timm.safetensors"),
    ],
)
def test_an_export_is_called_by_its_run_and_form(weights, form, name):
    assert str(default_name(weights, form)) == name


@pytest.mark.slow
def test_an_export_replaces_a_file_only_on_request(command, tmp_path):
    weights = OLD / "weights.safetensors"
    assert command("export", weights, "--import", "benchmarks.registered").returncode == 0
    file = tmp_path / "weights.stablehlo"
    file.write_bytes(b"mine")
    for fields in ([], ["--output", "weights.stablehlo"]):
        done = command("export", weights, "--import", "benchmarks.registered", *fields)
        assert done.returncode == 78
        assert "weights.stablehlo is there already, and stays as it is" in done.stderr
        assert "--overwrite" in done.stderr
    assert file.read_bytes() == b"mine"
    assert (
        command("export", weights, "--import", "benchmarks.registered", "--overwrite").returncode
        == 0
    )
    assert len(file.read_bytes()) > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.stablehlo"]


@pytest.mark.slow
def test_default_names_of_features_and_conversions_are_not_replaced(command, tmp_path):
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "image.png")
    line = [
        "features",
        OLD / "weights.safetensors",
        "image.png",
        "--import",
        "benchmarks.registered",
    ]
    assert command(*line).returncode == 0
    before = (tmp_path / "features.npz").read_bytes()
    done = command(*line)
    assert done.returncode == 78
    assert "features.npz is there already" in done.stderr
    assert (tmp_path / "features.npz").read_bytes() == before
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    done = command("convert", "image.png", "--from", "torchvision", "--model", "inception_v3")
    assert done.returncode == 78
    assert (tmp_path / "weights.safetensors").read_bytes() == b"mine"
