"""Reads from the environment which of how many processes this one is, and where they meet. Cloud TPU is left to JAX's own detection."""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from inception_jax.config import ConfigError

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""By hand: `host:port` of process 0, the number of processes, and which of them this is."""
PORT = "JAX_COORDINATOR_PORT"
"""Takes the place of the port that is made of a job's name."""
SWITCH = "INCEPTION_JAX_DISTRIBUTED"
"""`auto`, or `off`: this process is alone, whatever the other variables are."""
TIMEOUT = "INCEPTION_JAX_JOIN_TIMEOUT"
"""Seconds in which all processes must join."""

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Cluster:
    """The place of one process among `count`.

    Attributes:
      source: the variable or system that says so.
      address: `host:port` where process 0 listens; None where JAX detects this and the two below.
      count: the number of processes, 2 or more.
      number: which of them this one is, from 0.
      device: the accelerator of this process, where several share a host; None to take all that it sees.
    """

    source: str
    address: str | None = None
    count: int | None = None
    number: int | None = None
    device: int | None = None


def find_cluster(line: Environment | None = None) -> Cluster | None:
    """Returns the place of this process by `os.environ`, or by `line` before it; None for a process that is alone.

    The order is JAX's three variables, Open MPI (whose daemons Slurm may have started), Slurm, and Cloud TPU. `JAX_COORDINATOR_ADDRESS`
    alone replaces the address that one of the others gives.

    Raises:
      ConfigError: variables that contradict each other, or of which some are missing.
    """
    environment = {**os.environ, **({SWITCH: "auto", **line} if line else {})}
    if (switch := environment.get(SWITCH) or "auto") not in ("auto", "off"):
        raise ConfigError(f"{SWITCH} is {switch!r}: set it to auto or off")
    if switch == "off":
        return None
    if environment.get(COUNT) is not None or environment.get(NUMBER) is not None:
        return _read_by_hand(environment)
    return _read_open_mpi(environment) or _read_slurm(environment) or _find_tpu(environment)


def join_timeout() -> float:
    """Returns the seconds in which all processes of a run must join: 300, unless the environment gives another number.

    Raises:
      ConfigError: it is not a number above 0.
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
    """Returns `host:port` as it is, an IPv6 host in brackets, or raises."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"{address!r} is no host:port of process 0, such as node1:61440 (--coordinator, or {ADDRESS})"
        )
    return address


def _read_by_hand(environment: Environment) -> Cluster | None:
    if missing := [name for name in (ADDRESS, COUNT, NUMBER) if not environment.get(name)]:
        raise ConfigError(
            f"the environment does not set {', '.join(missing)}: set {ADDRESS}, {COUNT} and {NUMBER}, or none of them"
        )
    return _make_cluster(environment, COUNT, NUMBER, environment[ADDRESS])


def _make_cluster(
    environment: Environment, count: str, number: str, address: str, device: int | None = None
) -> Cluster | None:
    """Returns the cluster of the sizes that two variables give; None for a size of one."""
    size, own = _read_int(environment, count), _read_int(environment, number)
    if not 0 <= own < size:
        raise ConfigError(
            f"{number} is {own}: it must be from 0 to {size - 1}, since {count} is {size}"
        )
    return (
        Cluster(count, _check_address(environment.get(ADDRESS) or address), size, own, device)
        if size > 1
        else None
    )


def _read_int(environment: Environment, name: str) -> int:
    if name not in environment:
        raise ConfigError(
            f"the environment does not set {name}, and sets others of its group: set it, or {SWITCH}=off"
        )
    try:
        return int(environment[name])
    except ValueError:
        raise ConfigError(f"{name} is {environment[name]!r}: give a whole number") from None


def _choose_port(environment: Environment, job: str) -> str:
    """Returns one port for all processes of a job, likely another for another job, above those that Linux gives away by itself."""
    return environment.get(PORT) or str(61440 + zlib.crc32(job.encode()) % 4096)


def _choose_device(environment: Environment, local_number: str, on_host: int) -> int | None:
    """Returns one accelerator for each of several processes of a host, unless each was given its own and sees no other."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    shared = on_host > 1 and (visible is None or len(visible.split(",")) >= on_host)
    return _read_int(environment, local_number) if shared else None


def _read_open_mpi(environment: Environment) -> Cluster | None:
    count, number, on_host = (f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_SIZE"))
    if count not in environment:
        return None
    # mpirun starts process 0 beside itself, at 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911. Open MPI 5 sets no such variable.
    uri = environment.get("OMPI_MCA_orte_hnp_uri") or environment.get("PRTE_MCA_prte_hnp_uri") or ""
    if found := re.search(r"tcp[46]?://(\[[^],]+|[^:,\[]+)", uri):
        host = found[1] + "]" if found[1].startswith("[") else found[1]
    elif environment.get(on_host) == environment[count] or environment.get(ADDRESS):
        host = "127.0.0.1"
    else:
        raise ConfigError(
            f"Open MPI does not say where process 0 is: set {ADDRESS} (--coordinator) to host:port of the first host"
        )
    address = f"{host}:{_choose_port(environment, environment.get('PMIX_NAMESPACE') or uri)}"
    neighbours = int(environment[on_host]) if environment.get(on_host, "").isdecimal() else 1
    device = _choose_device(environment, "OMPI_COMM_WORLD_LOCAL_RANK", neighbours)
    return _make_cluster(environment, count, number, address, device)


def _read_slurm(environment: Environment) -> Cluster | None:
    """Returns the place of a task in a step, which `srun` starts. A batch job's own script has SLURM_NTASKS too, and is one process."""
    nodes = environment.get("SLURM_STEP_NODELIST")
    count = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if (nodes is None and count == "SLURM_NTASKS") or count not in environment:
        return None
    if nodes is None and environment[count] != "1":
        raise ConfigError(
            f"{count} is {environment[count]}, and SLURM_STEP_NODELIST is not set: set it, or {SWITCH}=off"
        )
    job = f"{environment.get('SLURM_JOB_ID')}.{environment.get('SLURM_STEP_ID')}"
    address = f"{first_host(nodes or 'localhost')}:{_choose_port(environment, job)}"
    on_host = re.match(
        r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    )  # 4(x2),3: as many on the others, or fewer
    device = _choose_device(environment, "SLURM_LOCALID", int(on_host[0]) if on_host else 1)
    return _make_cluster(environment, count, "SLURM_PROCID", address, device)


def first_host(nodes: str) -> str:
    """Returns the first of a list of hosts as Slurm writes it, with any number of brackets: `node[003-007,9],login` -> `node003`."""
    first = re.match(r"(?:\[[^]]*\]|[^,\[])+", nodes.strip())
    if first is None:
        raise ConfigError(f"SLURM_STEP_NODELIST is {nodes!r}: no host is named first")
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first[0])


def _find_tpu(environment: Environment) -> Cluster | None:
    """Returns a cluster for JAX to detect, on a machine with the chips of a TPU, unless GKE's variables name one host alone."""
    from jax._src import cloud_tpu_init  # by which JAX's own detection decides, too

    hosts = (
        environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    )
    alone = hosts and "," not in hosts and environment.get("MEGASCALE_NUM_SLICES", "1") == "1"
    return Cluster("Cloud TPU") if cloud_tpu_init.running_in_cloud_tpu_vm and not alone else None
