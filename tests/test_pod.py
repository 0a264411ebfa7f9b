"""One machine or a pod: processes of one or two devices each, joined over loopback, make the same run, and go on from each other's."""

import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.pod import HALF, STEPS


def pod(folder, processes, devices, *begun):
    """What such a pod finds, by the name of the run: its own, and those that it went on with."""
    name = f"{processes}x{devices}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    line = [sys.executable, "-m", "tests.pod", str(folder), name, *begun]
    shared = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    made = [
        subprocess.Popen(
            line, cwd=ROOT, env={**shared, "JAX_PROCESS_ID": str(i)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


@pytest.mark.slow
def test_one_two_and_four_processes_of_one_and_two_devices_make_one_run_and_go_on_from_each_other(tmp_path):
    alone = [pod(tmp_path, processes, 1) for processes in (1, 2, 4)]
    wanted, of = alone[0]["1x1"], {name: found for pod in alone for name, found in pod.items()}
    for processes in (1, 2, 4):
        for run in ("1x1", "2x1", "4x1"):
            cut(tmp_path, run, f"{processes}x2")
        of |= pod(tmp_path, processes, 2, "1x1", "2x1", "4x1")
    assert len(of) == 3 + 3 * 4
    for name, found in of.items():
        half = "under" in name
        np.testing.assert_allclose(found["losses"], wanted["losses"][HALF if half else 0 :], rtol=0, atol=1e-9, err_msg=name)
        assert {key: found["scores"][key] for key in ("count", "top1", "top5")} == {
            key: wanted["scores"][key] for key in ("count", "top1", "top5")
        }, name
        for key, array in wanted["state"].items():
            np.testing.assert_allclose(found["state"][key], array, rtol=0, atol=1e-9, err_msg=f"{name}: {key}")
