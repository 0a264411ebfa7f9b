"""Where a process meets the others of its run: what its environment says, by whom it was started."""

import os
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inception_jax.config import ConfigError

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""Said by hand: `host:port` of the first process, how many there are, which of them this is."""
PORT = "JAX_COORDINATOR_PORT"
"""In the place of the port that is made of a job's name, or of Cloud TPU's."""
SWITCH = "INCEPTION_JAX_DISTRIBUTED"
"""`auto`, or `off`: this process is alone, whatever else is said."""
TIMEOUT = "INCEPTION_JAX_JOIN_TIMEOUT"
"""Seconds in which all processes must be there."""
TPU_PORT = 8482
"""Where JAX meets on Cloud TPU, whose hosts belong to one run at a time."""
METADATA = "http://{}/computeMetadata/v1/instance/attributes/{}"
"""https://cloud.google.com/compute/docs/metadata/overview; attributes as JAX reads them (`jax/_src/clusters`)."""

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Meeting:
    """One of `count` processes, which meet at `address`.

    Attributes:
      address: `host:port` where process 0 listens.
      count: how many processes there are, 2 or more.
      number: which of them this one is, from 0.
      told: who says so.
      device: of several processes of a host, the accelerator that is this one's; None where it takes all that it sees.
    """

    address: str
    count: int
    number: int
    told: str
    device: int | None = None


def meeting(environment: Environment, cloud: Callable[[], Environment] | None = None) -> Meeting | None:
    """What `environment` says of this process and the others of its run; None for one that is alone.

    Asked are, in this order, the three variables of JAX, Open MPI (whose daemons Slurm may have started), Slurm, and Cloud TPU.
    `JAX_COORDINATOR_ADDRESS` alone takes the place of the address that one of the others gives.

    Args:
      cloud: what asks a TPU VM's metadata for what the environment does not say; None on a machine without a TPU.

    Raises:
      ConfigError: variables that contradict each other, or name the others in part.
    """
    switch = environment.get(SWITCH) or "auto"
    if switch not in ("auto", "off"):
        raise ConfigError(f"{SWITCH} is {switch!r}: say auto or off")
    if switch == "off":
        return None
    if environment.get(COUNT) is not None or environment.get(NUMBER) is not None:
        return _by_hand(environment)
    found = _open_mpi(environment) or _slurm(environment)
    if found is None and cloud is not None:
        found = _cloud_tpu(environment if _hosts(environment) else {**environment, **cloud()})
    return found


def patience(environment: Environment) -> float:
    """Seconds in which all processes of a run must be there: 300, unless the environment says otherwise.

    Raises:
      ConfigError: it says no number above 0.
    """
    given = environment.get(TIMEOUT) or "300"
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"{TIMEOUT} is {given!r}: give seconds, above 0")
    return seconds


def place(address: str) -> tuple[str, int]:
    """`host:port` -> host and port; an IPv6 host stands in brackets.

    Raises:
      ConfigError: it is neither.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{address!r} is no host:port of process 0, such as node1:61440 (--coordinator, or {ADDRESS})")
    return host.strip("[]"), int(port)


def _by_hand(environment: Environment) -> Meeting | None:
    if missing := [name for name in (ADDRESS, COUNT, NUMBER) if not environment.get(name)]:
        raise ConfigError(f"the environment does not set {', '.join(missing)}: set {ADDRESS}, {COUNT} and {NUMBER}, or none of them")
    place(environment[ADDRESS])
    return _one_of(environment, COUNT, NUMBER, lambda: environment[ADDRESS])


def _one_of(environment: Environment, count: str, number: str, address: Callable[[], str], device: int | None = None) -> Meeting | None:
    """The meeting of as many as the variable `count` says, this being number `number`; None where it says one."""
    many, which = _whole(environment, count), _whole(environment, number)
    if not 0 <= which < many:
        raise ConfigError(f"{number} is {which}: it must be from 0 to {many - 1}, since {count} is {many}")
    return Meeting(environment.get(ADDRESS) or address(), many, which, count, device) if many > 1 else None


def _whole(environment: Environment, name: str) -> int:
    if name not in environment:
        raise ConfigError(f"the environment does not set {name}, which whoever sets the variables beside it does: set it, or {SWITCH}=off")
    try:
        return int(environment[name])
    except ValueError:
        raise ConfigError(f"{name} is {environment[name]!r}: give a whole number") from None


def _port(environment: Environment, job: str) -> str:
    """The same for all processes of a job, likely another for another job, and above the ports that Linux gives away by itself."""
    return environment.get(PORT) or str(61440 + zlib.crc32(job.encode()) % 4096)


def _device(environment: Environment, local: str, beside: int) -> int | None:
    """Of `beside` processes on a host, each takes one accelerator; unless each was given its own, and sees no other."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    shared = beside > 1 and (visible is None or len(visible.split(",")) >= beside)
    return _whole(environment, local) if shared else None


def _open_mpi(environment: Environment) -> Meeting | None:
    count, number, beside = (f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_SIZE"))
    if count not in environment:
        return None

    def address() -> str:
        """Of `mpirun`, which starts process 0 beside itself: `1531576320.0;tcp://10.96.0.1,10.148.0.1:34911`."""
        uri = environment.get("OMPI_MCA_orte_hnp_uri") or environment.get("PRTE_MCA_prte_hnp_uri") or ""
        job = environment.get("PMIX_NAMESPACE") or uri
        if found := re.search(r"tcp[46]?://(\[[^],]+|[^:,\[]+)", uri):
            host = found[1] + "]" if found[1].startswith("[") else found[1]
        elif environment.get(beside) == environment[count]:
            host = "127.0.0.1"
        else:  # Open MPI 5 sets neither
            raise ConfigError(f"Open MPI does not say where process 0 is: set {ADDRESS} (--coordinator) to host:port of the first host")
        return f"{host}:{_port(environment, job)}"

    there = int(environment[beside]) if environment.get(beside, "").isdecimal() else 1
    return _one_of(environment, count, number, address, _device(environment, "OMPI_COMM_WORLD_LOCAL_RANK", there))


def _slurm(environment: Environment) -> Meeting | None:
    """Of a step, which `srun` starts: in the script of a batch job SLURM_NTASKS is set too, and that is one process."""
    nodes = environment.get("SLURM_STEP_NODELIST")
    count = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if (nodes is None and count == "SLURM_NTASKS") or count not in environment:
        return None

    def address() -> str:
        if nodes is None:
            raise ConfigError(f"{count} is {environment[count]}, and SLURM_STEP_NODELIST is not set: set it, or {SWITCH}=off")
        job = f"{environment.get('SLURM_JOB_ID')}.{environment.get('SLURM_STEP_ID')}"
        return f"{first_host(nodes)}:{_port(environment, job)}"

    on_this = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))  # 4(x2),3: as many on the others, or fewer
    return _one_of(environment, count, "SLURM_PROCID", address, _device(environment, "SLURM_LOCALID", int(on_this[0]) if on_this else 1))


def first_host(nodes: str) -> str:
    """The first of a list of hosts as Slurm writes them: `node[003-007,9],login` -> `node003`; there may be several brackets."""
    first = re.match(r"(?:\[[^]]*\]|[^,\[])+", nodes.strip())
    if first is None:
        raise ConfigError(f"SLURM_STEP_NODELIST is {nodes!r}: no host is named first")
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first[0])


def _hosts(environment: Environment) -> list[str]:
    given = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    return [host.strip() for host in given.split(",") if host.strip()]


def _cloud_tpu(environment: Environment) -> Meeting | None:
    """The hosts of a slice, or of several slices of one size: the number counts through one slice after the other."""
    hosts, coordinator = _hosts(environment), environment.get("MEGASCALE_COORDINATOR_ADDRESS")
    slices = _whole(environment, "MEGASCALE_NUM_SLICES") if environment.get("MEGASCALE_NUM_SLICES") else 1
    if len(hosts) * slices <= 1:
        return None
    if slices > 1 and not coordinator:
        raise ConfigError(f"MEGASCALE_NUM_SLICES is {slices}, and MEGASCALE_COORDINATOR_ADDRESS is not set: set it, or {SWITCH}=off")
    which = [("TPU_WORKER_ID", len(hosts))] + ([("MEGASCALE_SLICE_ID", slices)] if slices > 1 else [])
    number = 0
    for name, many in reversed(which):
        if not 0 <= (one := _whole(environment, name)) < many:
            raise ConfigError(f"{name} is {one}: it must be from 0 to {many - 1}, since there are {len(hosts)} hosts in {slices} slice(s)")
        number = number * many + one
    host = (coordinator or hosts[0]).split(":")[0]  # the port that stands there is of another service
    address = environment.get(ADDRESS) or f"{host}:{environment.get(PORT) or TPU_PORT}"
    return Meeting(address, len(hosts) * slices, number, "TPU_WORKER_HOSTNAMES")


def metadata(seconds: float = 3.0, tries: int = 3) -> Environment:
    """What a TPU VM knows of its pod, under the names of the variables that say the same; nothing where it is no VM of Cloud TPU.

    Args:
      seconds: an answer must come within these, at each of `tries`.
    """
    number = _attribute("agent-worker-number", seconds, tries)
    if number is None:
        return {}
    ends = (_attribute("worker-network-endpoints", seconds, tries) or "").split(",")
    hosts = [end.split(":")[-1] for end in ends]  # name:id:address, or an address alone
    lines = [line.partition(":") for line in (_attribute("tpu-env", seconds, tries) or "").splitlines()]
    slices = {name.strip(): value.strip().strip("'\"") for name, _, value in lines if name.strip().startswith("MEGASCALE_")}
    return {"TPU_WORKER_ID": number.strip(), "TPU_WORKER_HOSTNAMES": ",".join(hosts), **slices}


def _attribute(name: str, seconds: float, tries: int) -> str | None:
    url = METADATA.format(os.environ.get("GCE_METADATA_IP", "metadata.google.internal"), name)
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for left in reversed(range(tries)):
        try:
            return direct.open(request, timeout=seconds).read().decode()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
        except OSError:
            pass
        if left:
            time.sleep(0.5)
    return None
