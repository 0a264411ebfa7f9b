"""TPUs and GPUs with their published peaks, and the topologies that they are rented in."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from inception_jax.config import ConfigError

GB, GIB = 10**9, 2**30
MAX_GPUS_PER_HOST = 8


class Chip(NamedTuple):
    """The published peaks of a chip: a TPU or a GPU.

    Attributes:
      flops: bfloat16 operations per second; a multiply-add counts as two.
      hbm_bandwidth: Bytes per second between memory and chip.
      hbm_bytes: Bytes of memory. The compiler reserves some: 0.25 GiB of the 16 GiB of a v5e. For a
        GPU, the bytes that CUDA reports.
      ici_bandwidth: Bytes per second to other chips, over all links, in one direction. For a GPU,
        to those of its host.
      topologies: The grids that are rented out.
      device_kinds: JAX's names for its devices.
      source: The source of these numbers.
      platform: `tpu` or `gpu`.
      host_bandwidth: Bytes per second from a GPU to other hosts in one direction; None if unknown.
      target_config: The description of a GPU for XLA's compiler, without its name.
    """

    flops: float
    hbm_bandwidth: float
    hbm_bytes: int
    ici_bandwidth: float
    topologies: tuple[str, ...]
    device_kinds: tuple[str, ...]
    source: str
    platform: str = "tpu"
    host_bandwidth: float | None = None
    target_config: Mapping[str, Any] | None = None


_DOCS = "docs.cloud.google.com/tpu/docs/"
_JOUPPI = "Jouppi et al. 2020, A domain-specific supercomputer for training deep neural networks"
_V2_GRIDS = ("2x2", "4x4", "8x8", "8x16", "16x16")
_2D_GRIDS = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_3D_GRIDS = (
    "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16",
    "16x16x16",
)  # fmt: skip

_GPU_GRIDS = ("1", "2", "4", "8", "2x8", "4x8", "8x8")
"""Examples: GPUs of one host, or hosts x GPUs of each."""


def _load_gpus() -> dict[str, Chip]:
    """Returns the GPUs of `gpus.json`."""
    table = json.loads(Path(__file__).with_name("gpus.json").read_text())
    return {
        kind: Chip(
            flops=gpu["bf16_flops"],
            hbm_bandwidth=gpu["memory_bandwidth"],
            hbm_bytes=gpu["target_config"]["device_memory_size"],
            ici_bandwidth=gpu["interconnect_bandwidth"],
            topologies=_GPU_GRIDS,
            device_kinds=tuple(gpu["device_kinds"]),
            source=gpu["source"],
            platform="gpu",
            host_bandwidth=gpu["host_bandwidth"],
            target_config=gpu["target_config"],
        )
        for kind, gpu in table.items()
    }


# The interconnect is counted in one direction: half of the documented bidirectional bandwidth, or
# the bandwidth of each link in the papers.
CHIPS = {
    "v2": Chip(
        flops=46e12,
        hbm_bandwidth=700 * GB,
        hbm_bytes=16 * GIB,
        ici_bandwidth=4 * 496e9 / 8,
        topologies=_V2_GRIDS,
        device_kinds=("TPU v2",),
        source=f"{_JOUPPI}: 4 links of 496 Gbit/s",
    ),
    "v3": Chip(
        flops=123e12,
        hbm_bandwidth=900 * GB,
        hbm_bytes=32 * GIB,
        ici_bandwidth=4 * 656e9 / 8,
        topologies=(*_V2_GRIDS, "16x32", "32x32"),
        device_kinds=("TPU v3",),
        source=f"{_DOCS}v3; {_JOUPPI}: 4 links of 656 Gbit/s",
    ),
    "v4": Chip(
        flops=275e12,
        hbm_bandwidth=1200 * GB,
        hbm_bytes=32 * GIB,
        ici_bandwidth=6 * 50 * GB,
        topologies=(*_3D_GRIDS, "12x16x16"),
        device_kinds=("TPU v4",),
        source=f"{_DOCS}v4; arXiv:2304.01433: 6 links of 50 GB/s",
    ),
    "v5e": Chip(
        flops=197e12,
        hbm_bandwidth=819 * GB,
        hbm_bytes=16 * GIB,
        ici_bandwidth=400 / 2 * GB,
        topologies=_2D_GRIDS,
        device_kinds=("TPU v5 lite", "TPU v5e"),
        source=f"{_DOCS}v5e",
    ),
    "v5p": Chip(
        flops=459e12,
        hbm_bandwidth=2765 * GB,
        hbm_bytes=95 * GIB,
        ici_bandwidth=1200 / 2 * GB,
        topologies=(*_3D_GRIDS, "16x16x24"),
        device_kinds=("TPU v5", "TPU v5p"),
        source=f"{_DOCS}tpu7x",
    ),
    "v6e": Chip(
        flops=918e12,
        hbm_bandwidth=1638 * GB,
        hbm_bytes=32 * GIB,
        ici_bandwidth=800 / 2 * GB,
        topologies=_2D_GRIDS,
        device_kinds=("TPU v6 lite", "TPU v6e"),
        source=f"{_DOCS}tpu7x",
    ),
    "tpu7x": Chip(
        flops=2307e12,
        hbm_bandwidth=7380 * GB,
        hbm_bytes=192 * GIB,
        ici_bandwidth=1200 / 2 * GB,
        topologies=_3D_GRIDS,
        device_kinds=("TPU7x",),
        source=f"{_DOCS}tpu7x",
    ),
    **_load_gpus(),
}
"""Name of a chip -> chip; TPUs come first."""


class Topology(NamedTuple):
    """A grid of TPUs, `v5e:16x16`, in one or several slices; or hosts with GPUs, `h100:2x8`.

    Attributes:
      kind: A key of `CHIPS`.
      shape: The sides of the grid, in chips. For GPUs: hosts, and GPUs of each host.
      slices: The number of grids, joined by the data centre's network.
    """

    kind: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        """Returns the name of one slice: `v5e:16x16`; of hosts with GPUs: `h100:8`, `h100:2x8`."""
        is_one_host = self.chip.platform == "gpu" and self.shape[0] == 1
        shape = self.shape[1:] if is_one_host else self.shape
        return f"{self.kind}:{'x'.join(map(str, shape))}"

    @property
    def chip(self) -> Chip:
        """Returns the chip of this topology."""
        return CHIPS[self.kind]

    @property
    def num_chips(self) -> int:
        """Returns the number of chips in all slices."""
        return self.slices * prod(self.shape)


def parse_topology(name: str, slices: int = 1) -> Topology:
    """Returns the topology of a name such as `v5e:16x16`, `h100:8` or `h100:2x8`.

    Raises:
      ConfigError: The kind of chip is unknown, the grid has another number of dimensions, a host
        has too many GPUs, or GPUs are to be in several slices.
    """
    kind, _, grid = name.partition(":")
    chip = CHIPS.get(kind)
    if chip and chip.platform == "gpu":
        return _parse_hosts(name, kind, grid, slices)
    dimensions = len(chip.topologies[0].split("x")) if chip else 0
    if not dimensions or not re.fullmatch("x".join([r"[1-9]\d*"] * dimensions), grid):
        raise ConfigError(
            f"no topology {name!r} is known{_suggest_chips(kind)}; {list_topologies()}"
        )
    return Topology(kind, tuple(map(int, grid.split("x"))), slices)


def _parse_hosts(name: str, kind: str, grid: str, slices: int) -> Topology:
    """Returns the topology of GPUs: `8` of one host, or `2x8` of two hosts."""
    match = re.fullmatch(r"(?:([1-9]\d*)x)?([1-9]\d*)", grid)
    if not match:
        raise ConfigError(
            f"no topology {name!r} is known: for GPUs give their number, {kind}:8, or hosts x GPUs "
            f"of each, {kind}:2x8"
        )
    hosts, gpus = int(match[1] or 1), int(match[2])
    if gpus > MAX_GPUS_PER_HOST:
        total = hosts * gpus
        is_whole = total % MAX_GPUS_PER_HOST == 0
        shape = f"{total // MAX_GPUS_PER_HOST}x{MAX_GPUS_PER_HOST}" if is_whole else "2x8"
        raise ConfigError(
            f"{name} has {gpus} GPUs on a host, which has at most {MAX_GPUS_PER_HOST}: give hosts "
            f"x GPUs of each, {kind}:{shape}"
        )
    if slices > 1:
        raise ConfigError(
            f"--slices {slices} with {name}: slices are of TPUs; several hosts with GPUs are "
            f"{kind}:{slices * hosts}x{gpus}"
        )
    return Topology(kind, (hosts, gpus))


def _suggest_chips(kind: str) -> str:
    """Returns the names of chips that are spelled like `kind`, as part of a message."""
    if kind in CHIPS or not (names := get_close_matches(kind.lower(), CHIPS, cutoff=0.5)):
        return ""
    return f" (nearest: {', '.join(names)})"


def list_topologies() -> str:
    """Returns the names of all topologies, as part of a message."""
    tpus = [
        f"{kind}:{', '.join(chip.topologies)}"
        for kind, chip in CHIPS.items()
        if chip.platform == "tpu"
    ]
    gpus = ", ".join(kind for kind, chip in CHIPS.items() if chip.platform == "gpu")
    return (
        f"there are {'; '.join(tpus)}; and GPUs, 1 to {MAX_GPUS_PER_HOST} of a host (h100:8) or "
        f"hosts x GPUs of each (h100:2x8): {gpus}"
    )


def format_target_config(chip: Chip) -> str:
    """Returns the description of a GPU for XLA's compiler: a `GpuTargetConfigProto` as text.

    Raises:
      ValueError: The chip is not a GPU.
    """
    if chip.target_config is None:
        raise ValueError(f"{chip.device_kinds[0]} has no description for XLA")
    fields = dict(chip.target_config)
    major, minor, patch = fields.pop("dnn_version")
    lines = [f"  {name}{_format_field(name, value)}" for name, value in fields.items()]
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            "}",
            'platform_name: "CUDA"',
            f"dnn_version_info {{ major: {major} minor: {minor} patch: {patch} }}",
            f'device_description_str: "{chip.device_kinds[0]}"',
            "",
        ]
    )


def _format_field(name: str, value: Any) -> str:
    """Returns the value of a field of `GpuDeviceInfoProto` as text, with what separates it."""
    if name != "cuda_compute_capability":
        return f": {value}"
    major, minor = value
    return f" {{ major: {major}{f' minor: {minor}' if minor else ''} }}"


def find_chip(device_kind: str) -> Chip | None:
    """Returns the chip of a JAX device kind; None if its peaks are unknown."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.device_kinds), None)


class Roofline(NamedTuple):
    """Lower bounds on the time of a step in seconds, for each resource at its published peak.

    Attributes:
      mxu: Seconds of the matrix units.
      hbm: Seconds of the memory.
      ici: Seconds of the interconnect.
    """

    mxu: float
    hbm: float
    ici: float

    @property
    def bound(self) -> str:
        """Returns the name of the resource that takes longest."""
        return max(zip(self, self._fields, strict=True))[1]


def compute_roofline(chip: Chip, *, flops: float, hbm_bytes: float, ici_bytes: float) -> Roofline:
    """Returns the roofline of what one chip does in a step.

    Args:
      flops: Operations of the chip; a multiply-add counts as two.
      hbm_bytes: Bytes moved between its memory and the chip.
      ici_bytes: Bytes sent to other chips.
    """
    return Roofline(
        flops / chip.flops, hbm_bytes / chip.hbm_bandwidth, ici_bytes / chip.ici_bandwidth
    )


def compute_gpu_seconds(
    chip: Chip, *, flops: float, memory_bytes: float, host_bytes: float, remote_bytes: float
) -> dict[str, float]:
    """Returns lower bounds on the time of a step, resource -> seconds at its published peak.

    Args:
      chip: A GPU.
      flops: Operations of the GPU; a multiply-add counts as two.
      memory_bytes: Bytes moved between its memory and the GPU.
      host_bytes: Bytes sent to other GPUs of its host.
      remote_bytes: Bytes sent to GPUs of other hosts.

    Returns:
      `compute`, `memory`, `interconnect` (within a host) and, where the bandwidth is known and
      something is sent, `between_hosts`.
    """
    seconds = {
        "compute": flops / chip.flops,
        "memory": memory_bytes / chip.hbm_bandwidth,
        "interconnect": host_bytes / chip.ici_bandwidth,
    }
    if remote_bytes and chip.host_bandwidth:
        seconds["between_hosts"] = remote_bytes / chip.host_bandwidth
    return seconds
