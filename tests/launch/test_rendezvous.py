"""Where processes meet: what each way of starting them says in the environment."""

import http.server
import threading

import pytest

from inception_jax.config import ConfigError
from inception_jax.rendezvous import first_host, meeting, metadata, patience, place

BY_HAND = {"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
SLURM = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "gpu[03-06]", "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}  # fmt: skip
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip
TPU = {"TPU_WORKER_HOSTNAMES": "10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5", "TPU_WORKER_ID": "2"}
SLICES = {"MEGASCALE_COORDINATOR_ADDRESS": "10.0.0.2:8080", "MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"}


def numbers(found):
    return found and (found.count, found.number)


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
        ({**MPI, **SLURM, "SLURM_PROCID": "0"}, (4, 1), "10.96.0.1"),  # mpirun's daemons are started by srun
        ({**MPI, "OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b:1,2620:10d::2]:43370"}, (4, 1), "[fe80::b9b:1]"),
        (TPU, (4, 2), "10.0.0.2"),
        ({**TPU, **SLICES}, (8, 6), "10.0.0.2"),
        ({**SLICES, "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, (2, 1), "10.0.0.2"),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None, None),
        # A batch script, or the shell of an allocation, is no task of a step.
        ({"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "gpu[03-06]"}, None, None),
        *(({**one, "INCEPTION_JAX_DISTRIBUTED": "off"}, None, None) for one in (BY_HAND, SLURM, MPI, TPU)),
    ],
)
def test_process_count_number_and_coordinator_are_read_from_the_environment(environment, found, host):
    meets = meeting(environment, dict)
    assert numbers(meets) == found
    if meets:
        assert meets.address.rpartition(":")[0] == host
        assert 0 < place(meets.address)[1] < 65536


def test_processes_of_a_slurm_job_share_one_address_and_other_jobs_have_different_ones():
    steps = [meeting({**SLURM, "SLURM_PROCID": str(number)}).address for number in range(4)]
    assert len(set(steps)) == 1
    assert len({meeting({**SLURM, "SLURM_JOB_ID": str(job)}).address for job in range(20)}) == 20
    assert meeting({**SLURM, "JAX_COORDINATOR_PORT": "5000"}).address == "gpu03:5000"


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
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "does not set JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID"),
        ({**BY_HAND, "JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID is 4: it must be from 0 to 3, since JAX_NUM_PROCESSES is 4"),
        ({**BY_HAND, "JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID is 'one'"),
        ({**BY_HAND, "JAX_COORDINATOR_ADDRESS": "node1"}, "'node1' is no host:port"),
        ({**SLURM, "SLURM_PROCID": "4"}, "SLURM_PROCID is 4: it must be from 0 to 3, since SLURM_STEP_NUM_TASKS is 4"),
        ({name: value for name, value in SLURM.items() if name != "SLURM_PROCID"}, "does not set SLURM_PROCID"),
        ({name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}, "SLURM_STEP_NODELIST is not set"),
        ({**SLURM, "SLURM_STEP_NODELIST": ","}, "no host is named first"),
        ({name: value for name, value in MPI.items() if "uri" not in name}, "does not say where process 0 is"),
        ({**TPU, "TPU_WORKER_ID": "4"}, "TPU_WORKER_ID is 4: it must be from 0 to 3, since there are 4 hosts"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "does not set TPU_WORKER_ID"),
        ({**TPU, "MEGASCALE_NUM_SLICES": "2"}, "MEGASCALE_COORDINATOR_ADDRESS is not set"),
        ({**TPU, **SLICES, "MEGASCALE_SLICE_ID": "2"}, "MEGASCALE_SLICE_ID is 2"),
        ({"INCEPTION_JAX_DISTRIBUTED": "no"}, "INCEPTION_JAX_DISTRIBUTED is 'no': say auto or off"),
    ],
)
def test_incomplete_and_contradictory_cluster_variables_are_refused_by_name(environment, message):
    with pytest.raises(ConfigError, match=message):
        meeting(environment, dict)


def test_tpu_variables_are_ignored_without_a_tpu():
    assert meeting({**TPU, **SLICES}) is None  # as set for compiling ahead of time on a CPU


@pytest.mark.parametrize(
    ("changes", "device"),
    [
        ({}, None),  # alone on its host: it takes all that it sees
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_LOCALID": "5"}, 5),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1"}, 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_LOCALID": "5", "CUDA_VISIBLE_DEVICES": "5"}, None),  # --gpus-per-task=1
    ],
)
def test_slurm_tasks_that_share_a_host_get_one_accelerator_each(changes, device):
    assert meeting({**SLURM, **changes}).device == device


def test_the_join_timeout_is_read_from_the_environment_and_validated():
    assert (patience({}), patience({"INCEPTION_JAX_JOIN_TIMEOUT": "7.5"})) == (300, 7.5)
    for given in ("soon", "0", "-1", "nan"):
        with pytest.raises(ConfigError, match="INCEPTION_JAX_JOIN_TIMEOUT is"):
            patience({"INCEPTION_JAX_JOIN_TIMEOUT": given})


ATTRIBUTES = {
    "agent-worker-number": "1",
    "worker-network-endpoints": "a:0:10.0.0.2,b:1:10.0.0.3",
    "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-16'\nMEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
    "MEGASCALE_COORDINATOR_ADDRESS: '10.9.0.2:8080'\n",
}


@pytest.fixture
def server(monkeypatch):
    """Answers as the metadata server of a TPU VM does; what is not there is 404."""
    held = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            asked_well = self.path.startswith("/computeMetadata/v1/instance/attributes/") and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if asked_well and name in held else 404)
            self.end_headers()
            self.wfile.write(held.get(name, "").encode())

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{listener.server_port}")
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield held
        listener.shutdown()


def test_a_tpu_vm_without_variables_gets_its_cluster_from_the_metadata_server(server):
    def found():
        meets = meeting({}, metadata)
        return meets and (meets.address, *numbers(meets))

    assert found() is None
    server.update(ATTRIBUTES)
    assert found() == ("10.9.0.2:8482", 4, 3)
    server["worker-network-endpoints"], server["tpu-env"] = "10.0.0.2,10.0.0.3", ""
    assert found() == ("10.0.0.2:8482", 2, 1)
    server["worker-network-endpoints"], server["agent-worker-number"] = "10.0.0.2", "0"
    assert found() is None


def test_metadata_is_empty_if_no_metadata_server_answers(monkeypatch):
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:1")
    assert metadata(tries=1) == {}
