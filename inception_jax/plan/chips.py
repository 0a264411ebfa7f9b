"""TPU chips as published, and the topologies they come in."""

import re
from math import prod
from typing import NamedTuple

from inception_jax.config import ConfigError

GB, GIB = 10**9, 2**30


class Chip(NamedTuple):
    """What a chip can do at most.

    Attributes:
      flops: bfloat16 operations a second; a multiplication and an addition are two.
      hbm_bandwidth: bytes a second between memory and chip.
      hbm_bytes: of memory. The compiler keeps some for itself: 0.25 GiB of v5e's 16.
      ici_bandwidth: bytes a second to other chips, over all links, one way.
      topologies: the shapes that are rented out.
      device_kinds: what JAX calls its devices.
      source: of the figures.
    """

    flops: float
    hbm_bandwidth: float
    hbm_bytes: int
    ici_bandwidth: float
    topologies: tuple[str, ...]
    device_kinds: tuple[str, ...]
    source: str


_DOCS = "docs.cloud.google.com/tpu/docs/"
_PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SPACE = (
    "2x2x1",
    "2x2x2",
    "2x2x4",
    "2x4x4",
    "4x4x4",
    "4x4x8",
    "4x8x8",
    "8x8x8",
    "8x8x16",
    "8x16x16",
    "16x16x16",
)

CHIPS = {
    # Where the documentation gives ICI both ways, half of it; elsewhere the papers' links, each way.
    "v2": Chip(
        46e12, 700 * GB, 16 * GIB, 4 * 496e9 / 8, ("2x2", "4x4", "8x8", "8x16", "16x16"), ("TPU v2",),
        "Jouppi et al. 2020, A domain-specific supercomputer for training deep neural networks: 4 links of 496 Gbit/s",
    ),
    "v3": Chip(
        123e12, 900 * GB, 32 * GIB, 4 * 656e9 / 8, ("2x2", "4x4", "8x8", "8x16", "16x16", "16x32", "32x32"), ("TPU v3",),
        f"{_DOCS}v3; Jouppi et al. 2020: 4 links of 656 Gbit/s",
    ),
    "v4": Chip(
        275e12, 1200 * GB, 32 * GIB, 6 * 50 * GB, (*_SPACE, "12x16x16"), ("TPU v4",), f"{_DOCS}v4; arXiv:2304.01433: 6 links of 50 GB/s",
    ),
    "v5e": Chip(197e12, 819 * GB, 16 * GIB, 400 / 2 * GB, _PLANE, ("TPU v5 lite", "TPU v5e"), f"{_DOCS}v5e"),
    "v5p": Chip(459e12, 2765 * GB, 95 * GIB, 1200 / 2 * GB, (*_SPACE, "16x16x24"), ("TPU v5", "TPU v5p"), f"{_DOCS}tpu7x"),
    "v6e": Chip(918e12, 1638 * GB, 32 * GIB, 800 / 2 * GB, _PLANE, ("TPU v6 lite", "TPU v6e"), f"{_DOCS}tpu7x"),
    "tpu7x": Chip(2307e12, 7380 * GB, 192 * GIB, 1200 / 2 * GB, _SPACE, ("TPU7x",), f"{_DOCS}tpu7x"),
}  # fmt: skip


class Topology(NamedTuple):
    """`v5e:16x16`: chips of one kind on a grid; `slices` of them, joined by the data centre's network."""

    kind: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        return self.slices * prod(self.shape)


def parse_topology(name: str, slices: int = 1) -> Topology:
    """Reads `v5e:16x16`.

    Raises:
      ConfigError: another kind of chip, or no grid of its dimensions.
    """
    kind, _, grid = name.partition(":")
    dimensions = len(CHIPS[kind].topologies[0].split("x")) if kind in CHIPS else 0
    if not dimensions or not re.fullmatch("x".join([r"[1-9]\d*"] * dimensions), grid):
        raise ConfigError(f"no topology {name!r} is known; {list_topologies()}")
    return Topology(kind, tuple(map(int, grid.split("x"))), slices)


def list_topologies() -> str:
    """Every topology, for a message."""
    return "there are " + "; ".join(
        f"{kind}:{', '.join(chip.topologies)}" for kind, chip in CHIPS.items()
    )


def find_chip(device_kind: str) -> Chip | None:
    """The chip that JAX calls so, where its figures are known."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.device_kinds), None)


class Roofline(NamedTuple):
    """The seconds that a chip needs at least for what one resource does, were it at its published peak all the time."""

    mxu: float
    hbm: float
    ici: float

    @property
    def bound(self) -> str:
        """The resource that takes longest."""
        return max(zip(self, self._fields, strict=True))[1]


def compute_roofline(chip: Chip, *, flops: float, hbm_bytes: float, ici_bytes: float) -> Roofline:
    """Of what one chip does in a step: operations, bytes moved in its memory, bytes sent to its neighbours."""
    return Roofline(
        flops / chip.flops, hbm_bytes / chip.hbm_bandwidth, ici_bytes / chip.ici_bandwidth
    )
