"""The cluster of a run: number, count and address of its processes, read from the environment.

Cloud TPU is left to JAX's own detection.
"""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from inception_jax.config import ConfigError

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""JAX's variables: `host:port` of process 0, the number of processes, the number of this one."""
PORT = "JAX_COORDINATOR_PORT"
"""Replaces the port that is derived from the name of the job."""
SWITCH = "INCEPTION_JAX_DISTRIBUTED"
"""`auto`; or `off` for a single process, whatever the other variables are."""
TIMEOUT = "INCEPTION_JAX_JOIN_TIMEOUT"
"""Seconds within which all processes must join."""

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Cluster:
    """One process among the processes of a run.

    Attributes:
      source: The variable or system that names them.
      address: `host:port` where process 0 listens; None where JAX detects it, `count` and `number`.
      count: Number of processes, at least 2.
      number: Number of this process, from 0.
      device: The accelerator of this process if several share a host; None for all it can see.
    """

    source: str
    address: str | None = None
    count: int | None = None
    number: int | None = None
    device: int | None = None


def find_cluster(flags: Environment | None = None) -> Cluster | None:
    """Returns the cluster that the environment names; None for a single process.

    The order is JAX's three variables, Open MPI (whose daemons Slurm may have started), Slurm, and
    Cloud TPU. `JAX_COORDINATOR_ADDRESS` alone replaces the address that one of the others gives.

    Args:
      flags: Variables from the command line, which override `os.environ`.

    Raises:
      ConfigError: Variables contradict each other, or some are missing.
    """
    environment = {**os.environ, **({SWITCH: "auto", **flags} if flags else {})}
    if (switch := environment.get(SWITCH) or "auto") not in ("auto", "off"):
        raise ConfigError(f"{SWITCH} is {switch!r}: set it to auto or off")
    if switch == "off":
        return None
    if environment.get(COUNT) is not None or environment.get(NUMBER) is not None:
        return _read_jax(environment)
    return _read_open_mpi(environment) or _read_slurm(environment) or _find_tpu(environment)


def get_join_timeout() -> float:
    """Returns the seconds within which all processes of a run must join, by default 300.

    Raises:
      ConfigError: The variable is not a number above 0.
    """
    given = os.environ.get(TIMEOUT) or "300"
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"{TIMEOUT} is {given!r}: give seconds, above 0")
    return seconds


def _check_address(address: str) -> str:
    """Returns `address`, `host:port` with an IPv6 host in brackets, if it is one."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"{address!r} is no host:port of process 0, such as node1:61440 "
            f"(--coordinator, or {ADDRESS})"
        )
    return address


def _read_jax(environment: Environment) -> Cluster | None:
    if missing := [name for name in (ADDRESS, COUNT, NUMBER) if not environment.get(name)]:
        raise ConfigError(
            f"the environment does not set {', '.join(missing)}: set {ADDRESS}, {COUNT} and "
            f"{NUMBER}, or none of them"
        )
    return _make_cluster(environment, COUNT, NUMBER, environment[ADDRESS])


def _make_cluster(
    environment: Environment, count: str, number: str, address: str, device: int | None = None
) -> Cluster | None:
    """Returns the cluster whose size and number two variables give; None for a size of 1."""
    size, own = _read_int(environment, count), _read_int(environment, number)
    if not 0 <= own < size:
        raise ConfigError(
            f"{number} is {own}: it must be from 0 to {size - 1}, since {count} is {size}"
        )
    if size == 1:
        return None
    return Cluster(count, _check_address(environment.get(ADDRESS) or address), size, own, device)


def _read_int(environment: Environment, name: str) -> int:
    if name not in environment:
        raise ConfigError(
            f"the environment does not set {name}, and sets others of its group: set it, or "
            f"{SWITCH}=off"
        )
    try:
        return int(environment[name])
    except ValueError:
        raise ConfigError(f"{name} is {environment[name]!r}: give a whole number") from None


def _choose_port(environment: Environment, job: str) -> str:
    """Returns a port that depends on the job alone, above Linux's ephemeral ports."""
    return environment.get(PORT) or str(61440 + zlib.crc32(job.encode()) % 4096)


def _choose_device(environment: Environment, local_number: str, on_host: int) -> int | None:
    """Returns the accelerator of this process if the processes of a host see the same ones."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    is_shared = on_host > 1 and (visible is None or len(visible.split(",")) >= on_host)
    return _read_int(environment, local_number) if is_shared else None


def _read_open_mpi(environment: Environment) -> Cluster | None:
    count, number, on_host = (f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_SIZE"))
    if count not in environment:
        return None
    # mpirun runs process 0 on its own host, 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911. Open
    # MPI 5 does not set this variable.
    uri = environment.get("OMPI_MCA_orte_hnp_uri") or environment.get("PRTE_MCA_prte_hnp_uri") or ""
    if found := re.search(r"tcp[46]?://(\[[^],]+|[^:,\[]+)", uri):
        host = found[1] + "]" if found[1].startswith("[") else found[1]
    elif environment.get(on_host) == environment[count] or environment.get(ADDRESS):
        host = "127.0.0.1"
    else:
        raise ConfigError(
            f"Open MPI does not name the host of process 0: set {ADDRESS} (--coordinator) to "
            "host:port of the first host"
        )
    address = f"{host}:{_choose_port(environment, environment.get('PMIX_NAMESPACE') or uri)}"
    neighbours = int(environment[on_host]) if environment.get(on_host, "").isdecimal() else 1
    device = _choose_device(environment, "OMPI_COMM_WORLD_LOCAL_RANK", neighbours)
    return _make_cluster(environment, count, number, address, device)


def _read_slurm(environment: Environment) -> Cluster | None:
    """Returns the cluster of a step that `srun` started.

    The script of a batch job has SLURM_NTASKS too, but is a single process.
    """
    nodes = environment.get("SLURM_STEP_NODELIST")
    count = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if (nodes is None and count == "SLURM_NTASKS") or count not in environment:
        return None
    if nodes is None and environment[count] != "1":
        raise ConfigError(
            f"{count} is {environment[count]}, and SLURM_STEP_NODELIST is not set: set it, or "
            f"{SWITCH}=off"
        )
    job = f"{environment.get('SLURM_JOB_ID')}.{environment.get('SLURM_STEP_ID')}"
    address = f"{get_first_host(nodes or 'localhost')}:{_choose_port(environment, job)}"
    # 4(x2),3: the first host has the most tasks.
    on_host = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    device = _choose_device(environment, "SLURM_LOCALID", int(on_host[0]) if on_host else 1)
    return _make_cluster(environment, count, "SLURM_PROCID", address, device)


def get_first_host(nodes: str) -> str:
    """Returns the first host of a list in Slurm's form: `node003` of `node[003-007,9],login`."""
    first = re.match(r"(?:\[[^]]*\]|[^,\[])+", nodes.strip())
    if first is None:
        raise ConfigError(
            f"SLURM_STEP_NODELIST is {nodes!r}: it begins with no host; set it, or {SWITCH}=off"
        )
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first[0])


def _find_tpu(environment: Environment) -> Cluster | None:
    """Returns a cluster for JAX to detect on a TPU host, unless GKE's variables name one host."""
    from jax._src import cloud_tpu_init  # JAX's own detection uses the same test

    addresses = environment.get("TPU_PROCESS_ADDRESSES")
    hosts = addresses or environment.get("TPU_WORKER_HOSTNAMES") or ""
    is_single = hosts and "," not in hosts and environment.get("MEGASCALE_NUM_SLICES", "1") == "1"
    if not cloud_tpu_init.running_in_cloud_tpu_vm or is_single:
        return None
    return Cluster("Cloud TPU")
