"""Every benchmark can be imported, and runs a round that is as small as its flags can make it."""

import ast
import importlib
import json
import os
import shlex
import subprocess
import sys
from unittest import mock

import jax  # noqa: F401  before a benchmark sets what it reads
import pytest

from benchmarks.idx_pipeline import write_idx_files
from benchmarks.machine import ROOT, UNAVAILABLE

FILES = sorted([*(ROOT / "benchmarks").glob("[a-z]*.py"), *(ROOT / "experiments").glob("*.py")])
PROGRAMS = [file for file in FILES if "__main__" in file.read_text()]
TINY = "--model.name cifar_resnet20 --batch-size 8 --norm.examples-per-group 8"
SMALL = {
    "figure_1": "--steps 1250 --seeds 1",
    "figure_2": "--distorted --rates 0.01 --seeds 1 --epochs 0.5 --patience 0",
    "kill_test": "--runs 1",
    "fuzz": "--cases 56",
    "scaling": (
        "--model bn_inception_small --image-size 32 --largest-batch 2 --sizes 32 --batch-size 2 "
        "--rounds 1 --steps 1"
    ),
    "features": ("--images 8 --batch-size 4 --rounds 1 --network cifar_resnet20 --image-size 32"),
    "idx_pipeline": "--images 600 --rounds 1 --steps 5",
    "finetune": "idx idx --seeds 1 --pictures 2 --base-epochs 1 --epochs 2 --scratch-epochs 2",
    "input_pipeline": "--peers --rules bilinear --images 64 --rounds 1",
    "jpeg_tree": "--train 96 --test 10",
    "peers_cpu": "--peers keras --image-size 107 --batch-size 4 --rounds 1 --steps 1",
    "peers_gpu": "--models resnet50 --batch-size 8 --rounds 1 --steps 1",
    "plan_gpu": "--models cifar_plain20 --images 8",
    "plan_tpu": "--models cifar_plain20",
    "plan_tpu_pod": "--models mnist_bn --images 32 --pod v5e:2x2 --others",
    "precision": "--seeds 1 --epochs 1",
    "predict": "--images 4 --batch-size 4 --rounds 1",
    "registry": "--models mnist cifar_resnet20 --rounds 1",
    "rewrites": "--models cifar_plain20 --blocks 'resnet18, pool1'",
    "overhead": f"--rounds 1 --steps 2 digits {TINY}",
    "train_gpu": "--epochs 1 --batch-size 2 --dtype float32",
    "train_step": f"--rounds 1 --steps 2 digits {TINY}",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_benchmark_can_be_imported(file):
    with mock.patch.dict(os.environ):  # some set variables for JAX
        importlib.import_module(f"{file.parent.name}.{file.stem}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_benchmark_imports_from_the_tests(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not [name for name in names if name.split(".")[0] == "tests"]


@pytest.mark.nightly
@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_every_benchmark_runs_a_small_round(file, tmp_path):
    """Checks that its results are valid JSON with the machine, the versions and the commit."""
    results = tmp_path / "results"
    (tmp_path / "idx").mkdir()
    write_idx_files(tmp_path / "idx", 640)
    line = [
        sys.executable,
        str(file),
        *shlex.split(SMALL[file.stem]),
        "--results",
        str(results),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = results.glob("*.json")
    assert '"failed":' not in written.read_text()
    machine = json.loads(written.read_text(), parse_constant=pytest.fail)["machine"]
    assert {
        "device",
        "cores",
        "python",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "commit",
    } <= machine.keys()
