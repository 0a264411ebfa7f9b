"""Processes join by JAX, are compared before the first step, stop together, and end with a code
and a text that name what happened.

Real processes, which compute nothing (`tests.distributed.member`); tests/faults/test_peers.py
trains.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time

import pytest

from benchmarks.runs import free_port
from inception_jax.commands.cli_utils import pop_flags
from inception_jax.commands.train import CLUSTER_FLAGS
from inception_jax.config import ConfigError
from inception_jax.distributed.cluster import Cluster, find_cluster
from inception_jax.distributed.processes import explain_exit, find_differences, join_processes
from tests.conftest import ROOT
from tests.tiers import sweep

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "localhost",
}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_hnp_uri": "40960.0;tcp://127.0.0.1:34911",
}


class Member:
    def __init__(self, number, count, port, action="", facts="{}", **environment):
        by_hand = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
        }
        environment = environment if {*environment} - {"HEARTBEAT"} else by_hand | environment
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.member", action, facts], cwd=ROOT, text=True,
            env={**os.environ, "INCEPTION_JAX_JOIN_TIMEOUT": "60", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def line(self):
        """The next line of its output that is JSON: Gloo prints there, too."""
        for text in self.process.stdout:
            if text.startswith("{"):
                return json.loads(text)
        raise AssertionError(self.process.stderr.read())

    def end(self):
        """(its exit code, the last line of its standard error)."""
        _, errors = self.process.communicate(timeout=90)
        return self.process.returncode, errors.splitlines()[-1] if errors else ""


@pytest.fixture
def start():
    members = []

    def start(count, *, actions=None, facts=None, numbers=None, environments=None, **changes):
        port = free_port()
        for i in numbers or range(count):
            environment = {**(environments[i] if environments else {}), **changes}
            members.append(
                Member(
                    i,
                    count,
                    port,
                    (actions or {}).get(i, ""),
                    (facts or {}).get(i, "{}"),
                    **environment,
                )
            )
        return members

    yield start
    for member in members:
        member.process.kill()
        member.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("started_by", ["hand", "srun", "mpirun"])
def test_processes_join_and_only_jaxs_coordinator_listens(start, started_by):
    environments = {
        "hand": None,
        "srun": [{**SLURM, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)],
        "mpirun": [
            {**MPI, "OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_LOCAL_RANK": str(i)}
            for i in range(2)
        ],
    }[started_by]
    port = free_port()
    members = start(
        2, environments=environments, **({"JAX_COORDINATOR_PORT": port} if environments else {})
    )
    found = [member.line() for member in members]
    assert [(one["number"], one["count"]) for one in found] == [(0, 2), (1, 2)]
    if environments:
        assert found[0]["ports"] == [int(port)]
    assert (len(found[0]["ports"]), found[1]["ports"], found[0]["parent"], found[1]["parent"]) == (
        1,
        [],
        [],
        [],
    )
    assert [member.end()[0] for member in members] == [0, 0]


@pytest.mark.slow
def test_a_process_with_other_facts_is_named_to_all_before_anything_runs(start):
    members = start(
        4,
        facts={
            i: json.dumps({"commit": "xyz" if i == 2 else "abc", "long": "x" * 5000})
            for i in range(4)
        },
    )
    for code, text in [member.end() for member in members]:
        assert (
            code,
            f'commit is "abc" on 3 of 4, but on process 2 on {platform.node()} "xyz"' in text,
        ) == (78, True), text
        assert "long" not in text


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_a_killed_process_is_named_by_the_others_within_20_seconds(start, number):
    members = start(4, actions=dict.fromkeys(range(4), "wait"))
    for member in members:
        member.line()
    members[number].process.send_signal(signal.SIGKILL)  # the parent: its child ends with it
    began = time.monotonic()
    for i, member in enumerate(members):
        code, text = member.end()
        if i == number:
            assert code == -signal.SIGKILL
        else:
            assert (code, f"process {number} of 4 is lost" in text) == (69, True), text
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_an_error_of_one_process_ends_it_with_its_code_and_the_others_with_69(start):
    members = start(2, actions={0: "wait", 1: "bad data"}, HEARTBEAT="2")
    code, text = members[1].end()
    assert (code, text) == (
        65,
        "process 1 of 2 ends, and the others with it: an image that cannot be read",
    )
    code, text = members[0].end()
    assert (code, "process 1 of 2 is lost" in text) == (69, True), text


@pytest.mark.slow
def test_an_error_of_all_processes_ends_each_with_its_own_code(start):
    members = start(3, actions=dict.fromkeys(range(3), "bad configuration"))
    assert [member.end() for member in members] == [(78, "inception-jax: no such field")] * 3


SIGNALS = [
    {1: signal.SIGTERM},
    {0: signal.SIGINT},
    {0: signal.SIGTERM, 1: signal.SIGTERM, 2: signal.SIGINT},
]


@pytest.mark.parametrize("signals", sweep(SIGNALS, SIGNALS[2:]))
def test_processes_stop_together_at_one_look(start, signals):
    members = start(3, actions=dict.fromkeys(range(3), "look"))
    for member in members:
        member.line()
    assert [member.line()["step"] for member in members] == [0, 0, 0]
    for i, number in signals.items():
        members[i].process.send_signal(number)
    outputs = [member.process.communicate(timeout=60) for member in members]
    assert [member.process.returncode for member in members] == [75] * 3, outputs
    steps = [json.loads(output.splitlines()[-1])["step"] for output, _ in outputs]
    assert len(set(steps)) == 1, steps


@pytest.mark.slow
def test_a_coordinator_port_in_use_ends_process_0_with_78_and_names_the_port(start):
    port = free_port()
    with socket.create_server(("", int(port))):
        member = Member(0, 2, port)
        code, text = member.end()
    assert (code, f"127.0.0.1:{port} is in use" in text) == (78, True), text


@pytest.mark.slow
def test_processes_that_miss_another_end_with_69_after_the_join_timeout(start):
    address = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "3",
        "INCEPTION_JAX_JOIN_TIMEOUT": "2",
    }
    members = start(2, environments=[{**address, "JAX_PROCESS_ID": str(i)} for i in range(2)])
    began = time.monotonic()
    for i, (code, text) in enumerate([member.end() for member in members]):
        assert code == 69, text
        assert (
            f"process {i} of 3 could not join the others at {address['JAX_COORDINATOR_ADDRESS']}"
            in text
            or "process 0 of 3 is lost" in text
        )
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_process_beyond_the_number_of_process_0_ends_with_78(start):
    port = free_port()
    members = [Member(0, 2, port), Member(2, 3, port)]
    try:
        code, text = members[1].end()
        assert (code, "expects fewer processes than process 2 of 3 implies" in text) == (
            78,
            True,
        ), text
    finally:
        members[0].process.kill()


def test_differences_name_four_of_many_processes():
    said = [{"host": f"h{i}", "facts": {"batch_size": 64 if i < 20 else 32}} for i in range(32)]
    named = ", ".join(f"process {i} on h{i} 32" for i in range(20, 24))
    assert find_differences(said) == [f"batch_size is 64 on 20 of 32, but on {named} and 8 more"]
    assert find_differences(said[:20]) == []


FATAL = (
    "F1126 client.h:80] Terminating process because the JAX distributed service detected fatal "
    "errors. absl::Status: "
)
UNHEALTHY = FATAL + "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n"
REGISTER = "\n\nRPC: /xla.coordination.CoordinationService/RegisterTask"


@pytest.mark.parametrize(
    ("code", "text", "found", "message"),
    [
        (0, "anything", 0, ""),
        (75, "anything", 75, ""),
        (
            -6,
            FATAL
            + "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n"
            + "3\n7\nThe tasks",
            69,
            "process 3, 7 of 9",
        ),
        (
            -6,
            UNHEALTHY + "/job:jax_worker/replica:0/task:12\nThe tasks have crashed.",
            69,
            "process 12 of 9 is lost",
        ),
        (
            -6,
            FATAL + "UNAVAILABLE: Failed to send RPC to coordination service. Either",
            69,
            "process 0 of 9 is lost",
        ),
        (
            -6,
            FATAL + "DEADLINE_EXCEEDED\n\nRPC: /xla.coordination.CoordinationService/RegisterTask",
            69,
            "could not join the others at h:1 within",
        ),
        (-6, FATAL + "INTERNAL: something new", 69, "another process of the run is lost"),
        (
            -6,
            FATAL + "ALREADY_EXISTS: a request from a newer incarnation." + REGISTER,
            78,
            "two processes join as process 1 of 9",
        ),
        (
            -11,
            "E1126 add_port.cc:83] Failed to add port to server: No address added",
            78,
            "h:1 is in use",
        ),
        (-11, "UNKNOWN: Failed to start RPC server", 78, "h:1 is in use"),
        (-6, "free(): invalid pointer", 134, "process 1 of 9 was ended by SIGABRT"),
        (-9, "", 137, "process 1 of 9 was ended by SIGKILL"),
    ],
)
def test_the_end_of_a_child_is_translated(code, text, found, message):
    result, said = explain_exit(code, text, Cluster("hand", "h:1", 9, 1))
    assert (result, message in said) == (found, True), said


def test_the_end_of_a_subprocess_on_a_tpu_is_reported_without_process_numbers():
    for text in (
        UNHEALTHY + "3\nThe tasks have crashed.",
        FATAL + "DEADLINE_EXCEEDED" + REGISTER,
        "Failed to add port",
        "nothing known",
    ):
        code, said = explain_exit(-6, text, Cluster("Cloud TPU"))
        assert code in (69, 78, 134)
        assert "None" not in said
    assert (
        "process 3 of the run is lost"
        in explain_exit(-6, UNHEALTHY + "3\nThe tasks", Cluster("Cloud TPU"))[1]
    )


def test_a_child_that_ends_by_the_signal_passed_on_to_it_has_stopped():
    cluster = Cluster("hand", "h:1", 9, 1)
    assert explain_exit(-15, "", cluster, [15])[0] == 75
    assert explain_exit(-15, "", cluster, [15, 15])[0] == 143


def test_cluster_flags_override_the_environment(monkeypatch):
    monkeypatch.setenv("INCEPTION_JAX_DISTRIBUTED", "off")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "7")
    rest, line = pop_flags(
        ["digits", "--coordinator", "h:1", "--seed", "1", "--processes=2", "--process", "1"],
        CLUSTER_FLAGS,
    )
    assert rest == ["digits", "--seed", "1"]
    assert find_cluster(line) == Cluster("JAX_NUM_PROCESSES", "h:1", 2, 1)
    with join_processes() as processes:
        assert processes is None


@pytest.mark.parametrize(
    "line", [["--processes"], ["--processes="], ["--processes", "--seed", "1"]]
)
def test_a_cluster_flag_without_a_value_is_refused(line):
    with pytest.raises(ConfigError, match="--processes has no value"):
        pop_flags(line, CLUSTER_FLAGS)
