"""The published peaks of chips, and the names of topologies."""

from math import prod

import pytest

from inception_jax.config import ConfigError
from inception_jax.plan.chips import CHIPS, Topology, compute_roofline, find_chip, parse_topology


@pytest.mark.parametrize(
    ("kind", "teraflops", "bandwidth", "memory", "interconnect"),
    [
        ("v3", 123, 900, 32, 328),  # 340 TB/s of all-reduce over 1,024 chips
        ("v4", 275, 1200, 32, 300),
        ("v5e", 197, 819, 16, 200),  # 51.2 TB/s of all-reduce over 256 chips
        ("v5p", 459, 2765, 95, 600),
        ("v6e", 918, 1638, 32, 400),
        ("tpu7x", 2307, 7380, 192, 600),
    ],
)
def test_chip_specifications_match_the_published_values(
    kind, teraflops, bandwidth, memory, interconnect
):
    chip = CHIPS[kind]
    assert (chip.flops / 1e12, chip.hbm_bytes / 2**30) == (teraflops, memory)
    assert (chip.hbm_bandwidth / 1e9, chip.ici_bandwidth / 1e9) == (bandwidth, interconnect)


@pytest.mark.parametrize("kind", CHIPS)
def test_every_offered_topology_name_is_parsed(kind):
    for grid in CHIPS[kind].topologies:
        topology = parse_topology(f"{kind}:{grid}")
        assert topology.name == f"{kind}:{grid}"
        assert topology.num_chips == prod(map(int, grid.split("x")))
    assert CHIPS[kind].source
    assert all(find_chip(name) is CHIPS[kind] for name in CHIPS[kind].device_kinds)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "v5e",
        "v5e:",
        "v5e:16",
        "v5e:4x4x4",
        "v4:4x4",
        "v5e:0x4",
        "v5e:4x-4",
        "v5e:axb",
        "v9:4x4",
        "V5E:4x4",
    ],
)
def test_the_error_for_an_unknown_topology_name_lists_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"no topology .* v5e:1x1, .*16x16; v5p:2x2x1"):
        parse_topology(name)


def test_a_topology_counts_the_chips_of_all_slices():
    assert parse_topology("v5e:16x16", 4) == Topology("v5e", (16, 16), 4)
    assert parse_topology("v5e:16x16", 4).num_chips == 1024


@pytest.mark.parametrize(
    ("work", "bound", "milliseconds"),
    [
        ({"flops": 197e9, "hbm_bytes": 0.5e9, "ici_bytes": 0.1e9}, "mxu", 1),
        ({"flops": 197e9, "hbm_bytes": 1.638e9, "ici_bytes": 0.1e9}, "hbm", 2),
        ({"flops": 197e9, "hbm_bytes": 1.638e9, "ici_bytes": 0.6e9}, "ici", 3),
    ],
)
def test_the_slowest_resource_bounds_the_roofline(work, bound, milliseconds):
    roofline = compute_roofline(CHIPS["v5e"], **work)
    assert roofline.bound == bound
    assert max(roofline) == pytest.approx(milliseconds / 1e3)
