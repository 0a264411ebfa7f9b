"""The launch scripts start again what that helps, stop at the rest, and hand on who told them to
stop.

Slurm, SSH and Cloud TPU are played by small scripts on PATH that start their processes here.
"""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.runs import RECIPE, WITHOUT_PICTURES, free_port
from inception_jax.debugging.compare_runs import diff_states, group_metrics_by_step
from tests.conftest import ROOT

LAUNCH = ROOT / "launch"
STUBS = {
    # ssh [-o OPTION] HOST COMMAND: the host is this one.
    "ssh": 'while [ "$1" = -o ]; do shift 2; done; shift; exec sh -c "$*"',
    # srun tells of a code in a line for it, and returns the highest.
    "srun": """
        while [[ "$1" = --* ]]; do shift; done
        for n in 0 1; do
          SLURM_PROCID=$n SLURM_LOCALID=$n "$@" & pids[n]=$!
        done
        echo "${pids[*]}" > "$HERE/pids"
        for n in 0 1; do
          wait "${pids[n]}"; code=$?
          [ $code = 0 ] || echo "srun: error: node1: task $n: Exited with exit code $code" >&2
          [ $code -le "${most:-0}" ] || most=$code
        done
        exit "${most:-0}" """,
    "scancel": '[ "$*" = "--signal=TERM 4711" ] && kill -TERM $(cat "$HERE/pids")',
    "scontrol": 'echo "$*" >> "$HERE/requeued"',
    # gcloud returns a code of its own where any of them failed.
    "gcloud": """
        command=${!#}; command=${command#--command=}
        for n in 0 1; do
          TPU_WORKER_ID=$n sh -c "${command//\\/tmp\\/inception_jax.pid/$HERE/$n.pid}" & pids[n]=$!
        done
        for n in 0 1; do wait "${pids[n]}" || failed=255; done
        exit "${failed:-0}" """,
    # In the place of Python: ends with the codes in a file of this process's, one at each start; or
    # waits until it is told to stop.
    "python": """
        me=${JAX_PROCESS_ID:-${SLURM_PROCID:-${TPU_WORKER_ID:-0}}}
        echo "$*" >> "$HERE/started.$me"
        code=$(sed -n "$(wc -l < "$HERE/started.$me")p" "$HERE/codes.$me")
        [ "$code" != wait ] || {
          trap 'echo told; exit 75' TERM; echo waiting; while :; do sleep 0.05; done
        }
        exit "$code" """,
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_SUBMIT_DIR": str(ROOT),
}
LAUNCHERS = ["supervise", "ssh", "slurm", "tpu_pod"]


@pytest.fixture
def launch(tmp_path):
    """Starts a script with the stubs first on PATH; what they leave lies in the test's folder."""
    for name, text in STUBS.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    processes = []

    def start(name, *arguments, **environment):
        with_codes = environment.pop("codes", None)
        for number, codes in enumerate(with_codes or []):
            (tmp_path / f"codes.{number}").write_text("\n".join(map(str, codes)) + "\n")
        python = tmp_path / "bin" / "python"
        line = [LAUNCH / f"{name}.sh", *([python] if name == "supervise" else []), *arguments]
        environment = {
            **os.environ, **SLURM, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "HERE": str(tmp_path), "PYTHON": str(python), "HOSTS": "localhost localhost",
            "TPU": "pod", "ZONE": "zone", "DIRECTORY": str(ROOT), "AGAIN_PAUSE": "0", **environment,
        }  # fmt: skip
        if name == "ssh":
            environment = {
                key: value for key, value in environment.items() if not key.startswith("SLURM")
            }
        process = subprocess.Popen(
            line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        processes.append(process)
        return process

    yield start
    for process in processes:  # where a test failed
        process.kill()
    if (pids := tmp_path / "pids").exists():
        for pid in pids.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def starts(folder, number=0):
    return len((folder / f"started.{number}").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("last", [0, 65, 70, 78, 1])
def test_launch_scripts_restart_after_codes_75_and_69_and_stop_after_all_others(
    launch, tmp_path, name, last
):
    process = launch(name, "digits", "--workdir", "a b", codes=[[75, 69, last], [75, 69, last]])
    said, _ = process.communicate(timeout=60)
    assert process.returncode == last, said
    assert starts(tmp_path) == 3
    assert (tmp_path / "started.0").read_text().splitlines()[0].endswith("digits --workdir a b")
    if name != "supervise":
        assert starts(tmp_path, 1) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS[1:])
@pytest.mark.parametrize(
    ("codes", "result", "attempts"),
    [
        (
            [[65], [69]],
            65,
            1,
            # Whose peer ended with an error of its own has lost it: that error decides, though 69
            # is
            # higher
        ),
        ([[75, 0], [69, 0]], 0, 2),
        ([[137, 0], [69, 0]], 0, 2),  # killed from outside
    ],
)
def test_launch_scripts_decide_from_the_exit_codes_of_all_processes(
    launch, tmp_path, name, codes, result, attempts
):
    process = launch(name, codes=codes)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, starts(tmp_path)) == (result, attempts), said


@pytest.mark.slow
def test_the_restart_script_gives_up_after_its_limit_of_restarts(launch, tmp_path):
    process = launch("supervise", codes=[[69] * 9], AGAIN_LIMIT="2")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, starts(tmp_path)) == (69, 3), said


def wait_and_stop(process, number):
    """What it says, when it is told once its processes run."""
    said = []
    for line in process.stdout:
        said.append(line)
        if "waiting" in line and sum("waiting" in one for one in said) == number:
            break
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    return "".join(said) + rest


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), [("supervise", 1), ("ssh", 2), ("tpu_pod", 2)])
def test_launch_scripts_forward_sigterm_to_their_processes(launch, tmp_path, name, number):
    process = launch(name, codes=[["wait", 0], ["wait", 0]])
    said = wait_and_stop(process, number)
    assert process.returncode == 75, said
    assert said.count("told") == number
    assert starts(tmp_path) == 1


@pytest.mark.slow
def test_the_restart_script_stops_at_once_on_sigterm_during_its_pause(launch, tmp_path):
    process = launch("supervise", codes=[[69, 0]], AGAIN_PAUSE="600")
    assert "once more in 600 s" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 69
    assert starts(tmp_path) == 1


@pytest.mark.slow
def test_a_slurm_job_stops_and_requeues_itself_before_its_time_limit(launch, tmp_path):
    process = launch("slurm", codes=[["wait", 0], ["wait", 0]])
    for _ in range(2):
        assert "waiting" in process.stdout.readline()
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert said.count("told") == 2
    assert (starts(tmp_path), (tmp_path / "requeued").read_text()) == (1, "requeue 4711\n")


@pytest.mark.slow
def test_the_slurm_script_leaves_sigterm_to_slurm_and_tasks_receive_it_once(launch, tmp_path):
    process = launch("slurm", codes=[["wait", 0], ["wait", 0]])
    for _ in range(2):
        assert "waiting" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    for task in (tmp_path / "pids").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.count("told")) == (75, 2), said
    assert (starts(tmp_path), (tmp_path / "requeued").exists()) == (1, False)


@pytest.mark.slow
def test_the_ssh_script_stops_the_other_hosts_when_one_fails(launch, tmp_path):
    process = launch("ssh", codes=[["wait"], [78]], GRACE="1")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.count("told")) == (78, 1), said


@pytest.mark.slow
def test_the_ssh_script_prefixes_output_with_its_host_name(launch):
    process = launch("ssh", codes=[["wait", 0], [0, 0]], HOSTS="localhost 127.0.0.1")
    said = wait_and_stop(process, 1)
    assert "localhost: waiting\n" in said


ENVIRONMENT = {"PYTHON": sys.executable, "PYTHONPATH": WITHOUT_PICTURES}


@pytest.mark.nightly
def test_a_run_restarted_by_slurm_equals_a_run_by_ssh_bit_for_bit(launch, tmp_path):
    port = free_port()
    process = launch(
        "slurm",
        *RECIPE,
        "--workdir",
        str(tmp_path / "slurm"),
        JAX_COORDINATOR_PORT=port,
        **ENVIRONMENT,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "step 60/126" in line:
            break
    assert "step 60/126" in said[-1], "".join(said)
    os.kill(int((tmp_path / "pids").read_text().split()[1]), signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    text = "".join(said) + rest
    assert process.returncode == 0, text
    assert f"2 processes, by SLURM_STEP_NUM_TASKS, meet at localhost:{port}\n" in text
    assert "supervise: it ended with 75; once more" in text
    assert re.search(r"going on from step \d+ of 126", rest)

    process = launch("ssh", *RECIPE, "--workdir", str(tmp_path / "ssh"), PORT=port, **ENVIRONMENT)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert f"localhost: 2 processes, by JAX_NUM_PROCESSES, meet at localhost:{port}\n" in text
    assert group_metrics_by_step(str(tmp_path / "ssh")) == group_metrics_by_step(
        str(tmp_path / "slurm")
    )
    assert diff_states(str(tmp_path / "ssh"), str(tmp_path / "slurm")) == []


# What cannot be run here is read.


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda script: script.name)
def test_shellcheck_finds_no_fault_in_the_launch_scripts(script):
    checked = subprocess.run(["shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert os.access(script, os.X_OK)


def test_the_kubernetes_jobset_restarts_after_codes_69_and_75():
    jobset = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())
    (group,) = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (
        rule["action"],
        rule["onExitCodes"]["operator"],
        rule["onExitCodes"]["containerName"],
    ) == (
        "FailJob",
        "NotIn",
        container["name"],
    )
    again = set(rule["onExitCodes"]["values"])
    assert {69, 75} <= again
    assert not again & {0, 1, 2, 65, 70, 74, 78}
    (final,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (final["action"], final["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert (job["backoffLimit"], job["completionMode"], pod["restartPolicy"]) == (
        0,
        "Indexed",
        "Never",
    )
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert job["parallelism"] == job["completions"] == int(environment["JAX_NUM_PROCESSES"])
    name = jobset["metadata"]["name"]
    assert environment["JAX_COORDINATOR_ADDRESS"].startswith(f"{name}-{group['name']}-0-0.{name}:")
    assert "JAX_PROCESS_ID" in environment


def test_the_dockerfile_copies_what_the_wheel_is_built_from():
    copied = re.findall(r"^COPY (.*) \S+$", (LAUNCH / "Dockerfile").read_text(), re.MULTILINE)
    files = " ".join(copied).split()
    assert {"pyproject.toml", "README.md", "LICENSE", "inception_jax", "configs"} == set(files)
    assert all(Path(ROOT / file).exists() for file in files)
