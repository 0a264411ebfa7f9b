"""TPU chips with their published peaks, and the topologies that they are rented in."""

import re
from math import prod
from typing import NamedTuple

from inception_jax.config import ConfigError

GB, GIB = 10**9, 2**30


class Chip(NamedTuple):
    """The published peaks of a chip.

    Attributes:
      flops: bfloat16 operations per second; a multiply-add counts as two.
      hbm_bandwidth: Bytes per second between memory and chip.
      hbm_bytes: Bytes of memory. The compiler reserves some: 0.25 GiB of the 16 GiB of a v5e.
      ici_bandwidth: Bytes per second to other chips, over all links, in one direction.
      topologies: The grids that are rented out.
      device_kinds: JAX's names for its devices.
      source: The source of these numbers.
    """

    flops: float
    hbm_bandwidth: float
    hbm_bytes: int
    ici_bandwidth: float
    topologies: tuple[str, ...]
    device_kinds: tuple[str, ...]
    source: str


_DOCS = "docs.cloud.google.com/tpu/docs/"
_JOUPPI = "Jouppi et al. 2020, A domain-specific supercomputer for training deep neural networks"
_V2_GRIDS = ("2x2", "4x4", "8x8", "8x16", "16x16")
_2D_GRIDS = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_3D_GRIDS = (
    "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16",
    "16x16x16",
)  # fmt: skip

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
}


class Topology(NamedTuple):
    """A grid of chips, `v5e:16x16`, in one or several slices.

    Attributes:
      kind: A key of `CHIPS`.
      shape: The sides of the grid, in chips.
      slices: The number of grids, joined by the data centre's network.
    """

    kind: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        """Returns the name of one slice: `v5e:16x16`."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def chip(self) -> Chip:
        """Returns the chip of this topology."""
        return CHIPS[self.kind]

    @property
    def num_chips(self) -> int:
        """Returns the number of chips in all slices."""
        return self.slices * prod(self.shape)


def parse_topology(name: str, slices: int = 1) -> Topology:
    """Returns the topology of a name such as `v5e:16x16`.

    Raises:
      ConfigError: The kind of chip is unknown, or the grid has another number of dimensions.
    """
    kind, _, grid = name.partition(":")
    dimensions = len(CHIPS[kind].topologies[0].split("x")) if kind in CHIPS else 0
    if not dimensions or not re.fullmatch("x".join([r"[1-9]\d*"] * dimensions), grid):
        raise ConfigError(f"no topology {name!r} is known; {list_topologies()}")
    return Topology(kind, tuple(map(int, grid.split("x"))), slices)


def list_topologies() -> str:
    """Returns the names of all topologies, as part of a message."""
    kinds = [f"{kind}:{', '.join(chip.topologies)}" for kind, chip in CHIPS.items()]
    return f"there are {'; '.join(kinds)}"


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
