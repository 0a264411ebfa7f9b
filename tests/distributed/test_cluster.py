"""Each way of starting processes names them and their meeting place in the environment."""

import os

import pytest
from jax._src import cloud_tpu_init

from inception_jax.config import ConfigError
from inception_jax.distributed.cluster import (
    Cluster,
    find_cluster,
    get_first_host,
    get_join_timeout,
)

BY_HAND = {"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
SLURM = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "gpu[03-06]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}  # fmt: skip
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip
TPU = {"TPU_WORKER_HOSTNAMES": "10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5", "TPU_WORKER_ID": "2"}


@pytest.fixture
def found_in(monkeypatch):
    """A function of an environment, without others of its kind, to the cluster that it names."""

    def find(environment):
        for name in [
            name
            for name in os.environ
            if name.startswith(("JAX_COORD", "JAX_NUM_P", "JAX_PROC", "SLURM_", "OMPI_", "TPU_"))
        ]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return find_cluster()

    return find


@pytest.mark.parametrize(
    ("environment", "found", "host"),
    [
        ({}, None, None),
        (BY_HAND, (4, 3), "node1"),
        (SLURM, (4, 2), "gpu03"),
        ({**SLURM, **BY_HAND}, (4, 3), "node1"),
        ({**SLURM, "JAX_COORDINATOR_ADDRESS": "ib0:1"}, (4, 2), "ib0"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None, None),
        (MPI, (4, 1), "10.96.0.1"),
        (
            {**MPI, **SLURM, "SLURM_PROCID": "0"},
            (4, 1),
            "10.96.0.1",
        ),  # mpirun's daemons are started by srun
        (
            {**MPI, "OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b:1,2620:10d::2]:43370"},
            (4, 1),
            "[fe80::b9b:1]",
        ),
        # A batch script, or the shell of an allocation, is no task of a step.
        (
            {
                "SLURM_JOB_ID": "4711",
                "SLURM_NTASKS": "4",
                "SLURM_PROCID": "0",
                "SLURM_JOB_NODELIST": "gpu[03-06]",
            },
            None,
            None,
        ),
        *(
            ({**one, "INCEPTION_JAX_DISTRIBUTED": "off"}, None, None)
            for one in (BY_HAND, SLURM, MPI, TPU)
        ),
    ],
)
def test_process_count_number_and_coordinator_are_read_from_the_environment(
    found_in, environment, found, host
):
    cluster = found_in(environment)
    assert (cluster and (cluster.count, cluster.number)) == found
    if cluster:
        address, _, port = cluster.address.rpartition(":")
        assert address == host
        assert 0 < int(port) < 65536


def test_processes_of_a_slurm_job_share_one_address_and_other_jobs_have_different_ones(found_in):
    steps = [found_in({**SLURM, "SLURM_PROCID": str(number)}).address for number in range(4)]
    assert len(set(steps)) == 1
    assert len({found_in({**SLURM, "SLURM_JOB_ID": str(job)}).address for job in range(20)}) == 20
    assert found_in({**SLURM, "JAX_COORDINATOR_PORT": "5000"}).address == "gpu03:5000"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[003-007,9],x", "node003"),
        ("node[9,11]", "node9"),
        ("rack[2-3]-node[04-07]", "rack2-node04"),
        ("gpu[1-4]-ib,x", "gpu1-ib"),
        ("a-1.example.org,b", "a-1.example.org"),
    ],
)
def test_first_host_reads_the_first_name_of_a_slurm_node_list(nodes, first):
    assert get_first_host(nodes) == first


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "does not set JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID"),
        (
            {**BY_HAND, "JAX_PROCESS_ID": "4"},
            "JAX_PROCESS_ID is 4: it must be from 0 to 3, since JAX_NUM_PROCESSES is 4",
        ),
        ({**BY_HAND, "JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID is 'one'"),
        ({**BY_HAND, "JAX_COORDINATOR_ADDRESS": "node1"}, "'node1' is no host:port"),
        (
            {**SLURM, "SLURM_PROCID": "4"},
            "SLURM_PROCID is 4: it must be from 0 to 3, since SLURM_STEP_NUM_TASKS is 4",
        ),
        (
            {name: value for name, value in SLURM.items() if name != "SLURM_PROCID"},
            "does not set SLURM_PROCID",
        ),
        (
            {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"},
            "SLURM_STEP_NODELIST is not set",
        ),
        ({**SLURM, "SLURM_STEP_NODELIST": ","}, "it begins with no host"),
        (
            {name: value for name, value in MPI.items() if "uri" not in name},
            "does not name the host of process 0",
        ),
        (
            {"INCEPTION_JAX_DISTRIBUTED": "no"},
            "INCEPTION_JAX_DISTRIBUTED is 'no': set it to auto or off",
        ),
    ],
)
def test_incomplete_and_contradictory_cluster_variables_are_refused_by_name(
    found_in, environment, message
):
    with pytest.raises(ConfigError, match=message):
        found_in(environment)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        (TPU, Cluster("Cloud TPU")),
        ({}, Cluster("Cloud TPU")),  # its metadata server knows
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, Cluster("Cloud TPU")),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({**TPU, "INCEPTION_JAX_DISTRIBUTED": "off"}, None),
    ],
)
def test_a_tpu_is_left_to_jax_unless_its_variables_name_one_host(
    found_in, monkeypatch, environment, found
):
    monkeypatch.delenv("MEGASCALE_NUM_SLICES", raising=False)
    assert (
        found_in(environment) is None
    )  # as variables are set for compiling ahead of time on a CPU
    monkeypatch.setattr(cloud_tpu_init, "running_in_cloud_tpu_vm", True)
    assert found_in(environment) == found


@pytest.mark.parametrize(
    ("changes", "device"),
    [
        ({}, None),  # alone on its host: it takes all that it sees
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_LOCALID": "5"}, 5),
        (
            {
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
                "SLURM_LOCALID": "1",
                "CUDA_VISIBLE_DEVICES": "0,1",
            },
            1,
        ),
        (
            {
                "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
                "SLURM_LOCALID": "5",
                "CUDA_VISIBLE_DEVICES": "5",
            },
            None,
        ),  # --gpus-per-task=1
    ],
)
def test_slurm_tasks_that_share_a_host_get_one_accelerator_each(found_in, changes, device):
    assert found_in({**SLURM, **changes}).device == device


def test_the_join_timeout_is_read_from_the_environment_and_validated(monkeypatch):
    monkeypatch.delenv("INCEPTION_JAX_JOIN_TIMEOUT", raising=False)
    assert get_join_timeout() == 300
    monkeypatch.setenv("INCEPTION_JAX_JOIN_TIMEOUT", "7.5")
    assert get_join_timeout() == 7.5
    for given in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("INCEPTION_JAX_JOIN_TIMEOUT", given)
        with pytest.raises(ConfigError, match="INCEPTION_JAX_JOIN_TIMEOUT is"):
            get_join_timeout()
