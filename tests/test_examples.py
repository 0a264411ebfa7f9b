"""The example trains, scores and draws, with a small model for a few steps."""

import importlib.util
import struct
import sys

import numpy as np
import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_diffusion_model_is_scored_while_it_trains(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for split, count in (("train", 300), ("t10k", 300)):
        images = struct.pack(">IIII", 0x803, count, 28, 28) + rng.bytes(count * 784)
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    spec = importlib.util.spec_from_file_location("ddpm", ROOT / "examples" / "ddpm.py")
    ddpm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ddpm)
    small = {"BATCH": 4, "SAMPLES": 300, "EVERY": 2, "SAMPLER_STEPS": 2, "WIDTH": 8}
    for name, value in {**small, "CLASSIFIER_STEPS": "2"}.items():
        monkeypatch.setattr(ddpm, name, value)
    output = tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv", ["ddpm.py", str(tmp_path), "--steps", "4", "--output", str(output)]
    )
    ddpm.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split(":")[0] for line in lines] == ["step 0", "step 2", "step 4"]
    assert all("N 300 and 300" in line for line in lines)
    assert (output / "fid_over_time.png").stat().st_size > 10_000


def test_the_example_has_at_most_150_lines():
    assert len((ROOT / "examples" / "ddpm.py").read_text().splitlines()) <= 150
