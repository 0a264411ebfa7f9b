"""One machine or a pod: processes of one or two devices each, joined over loopback, make the same
run, and go on from each other's.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.runs import Process, completed, free_port
from tests.conftest import ROOT
from tests.pod import HALF, STEPS

FRACTION = re.compile(r"\b\d+\.\d+(?:e-\d+)?\b")


def pod(folder, processes, devices, *begun):
    """Returns the results of a pod by the name of the run: its own, and those that it resumed."""
    name = f"{processes}x{devices}"
    address = f"127.0.0.1:{free_port()}"
    line = [sys.executable, "-m", "tests.pod", str(folder), name, *begun]
    shared = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
    }
    made = [
        subprocess.Popen(
            line,
            cwd=ROOT,
            env={**shared, "JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(processes)
    ]
    said = [process.communicate(timeout=600)[0] for process in made]
    assert [process.returncode for process in made] == [0] * processes, "\n".join(said)
    found = json.loads((folder / f"{name}.json").read_text())
    for run in found:
        with np.load(folder / f"{run}.npz") as arrays:
            found[run]["state"] = dict(arrays)
        assert (found[run]["processes"], found[run]["devices"]) == (processes, processes * devices)
    return found


def cut(folder, run, other):
    """A copy of a run as it was at half its way, for another pod to go on with."""
    copied = folder / f"{run}-under-{other}"
    shutil.copytree(folder / run, copied)
    for path in (copied / "checkpoints").glob(f"{STEPS}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert (copied / "checkpoints" / str(HALF)).is_dir()


def alike(pods):
    """Holds runs against the first: each step's loss, what is counted, and the last state."""
    (first, wanted), *others = pods.items()
    for name, found in others:
        np.testing.assert_allclose(
            found["losses"],
            wanted["losses"][HALF if "under" in name else 0 :],
            rtol=0,
            atol=1e-9,
            err_msg=name,
        )
        for metric in ("count", "top1", "top5"):
            assert found["scores"][metric] == wanted["scores"][metric], name
        for key, array in wanted["state"].items():
            np.testing.assert_allclose(
                found["state"][key], array, rtol=0, atol=1e-9, err_msg=f"{name}, not {first}: {key}"
            )


@pytest.mark.nightly
def test_one_two_and_four_processes_make_the_same_run_and_resume_each_others_checkpoints(tmp_path):
    """Runs one, two and four processes on one and on two devices, each resuming from each."""
    found = {}
    for processes in (1, 2, 4):
        found |= pod(tmp_path, processes, 1)
    for processes in (1, 2, 4):
        for run in ("1x1", "2x1", "4x1"):
            cut(tmp_path, run, f"{processes}x2")
        found |= pod(tmp_path, processes, 2, "1x1", "2x1", "4x1")
    alike(found)


@pytest.mark.nightly
def test_evaluate_and_predict_on_two_processes_print_the_output_of_one_process_once(tmp_path):
    """Population statistics, every probability, and the names of images, one of which cannot be
    read.
    """
    completed(tmp_path, "run")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "odd.png").write_bytes(b"no image")
    lines = {
        "evaluate": (
            "run",
            "--statistics",
            "population",
            "--batches",
            "4",
            "--json",
            "--output",
            "alone.npz",
        ),
        "predict": (
            "run",
            *(f"{i}.png" for i in range(5)),
            "odd.png",
            "--batch-size",
            "4",
            "--csv",
        ),
    }
    starts = {"evaluate": '{"step"', "predict": ("image,", *(f"{i}.png" for i in range(5)))}
    for command, line in lines.items():
        alone = Process(tmp_path, *line, command=command)
        code = alone.wait()
        assert code == (65 if command == "predict" else 0), alone.text
        line = tuple("together.npz" if word == "alone.npz" else word for word in line)
        shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
        together = [
            Process(tmp_path, *line, command=command, **shared, JAX_PROCESS_ID=str(i))
            for i in range(2)
        ]
        assert [process.wait() for process in together] == [code] * 2, (
            together[0].text + together[1].text
        )
        one, lead, other = (
            "".join(row for row in process.said if row.startswith(starts[command]))
            for process in (alone, *together)
        )
        assert one.count("\n") == (1 if command == "evaluate" else 1 + 5 * 3)
        assert (FRACTION.sub("", lead), other) == (FRACTION.sub("", one), "")
        # Their sums are in another order: 1e-8 of a loss. A single example more or less would be
        # 1e-2 of what is counted.
        np.testing.assert_allclose(
            *(np.array(FRACTION.findall(text), float) for text in (lead, one)), rtol=1e-6, atol=1e-6
        )
    with np.load(tmp_path / "alone.npz") as one, np.load(tmp_path / "together.npz") as other:
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-6)
        np.testing.assert_array_equal(one["labels"], other["labels"])


@pytest.mark.nightly
def test_a_run_resumed_on_half_the_devices_accumulates_gradients(tmp_path):
    line = ("--workdir", "run", "--examples-per-device", "2", "--epochs")
    two = Process(tmp_path, *line, "0.0625", JAX_NUM_CPU_DEVICES="2")
    assert two.wait() == 0, two.text
    assert "for 2 device(s): about" in two.text
    one = Process(tmp_path, *line, "0.125")
    assert one.wait() == 0, one.text
    assert (
        "for 1 device(s), a batch in 2 microbatches, batch norm over 2 examples as in one: "
        "about" in one.text
    )
    assert "going on from step 21 of 42" in one.text
