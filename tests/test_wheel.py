"""It works as a wheel too: recipes and digits are packed inside."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT


@pytest.mark.nightly
def test_a_wheel_trains_in_an_empty_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {"inception_jax/configs/digits.py", "inception_jax/data/digits.csv.gz"} <= set(
            archive.namelist()
        )
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "inception_jax.cli",
            "train",
            "digits",
            "--model.name",
            "mnist",
            "--data.image-size",
            "28",
            "--steps",
            "1",
            "--schedule.warmup-epochs",
            "0",
            "--batch-size",
            "8",
            "--data.test-split",
            "test[:8]",
        ],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (empty / "runs" / "digits" / "experiment.json").exists()
