"""The published peaks of chips, and the names of topologies."""

from math import prod

import pytest

from inception_jax.config import ConfigError
from inception_jax.plan.chips import (
    CHIPS,
    Topology,
    compute_gpu_seconds,
    compute_roofline,
    find_chip,
    format_target_config,
    parse_topology,
)


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


H100_TARGET = """\
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""The description with which the figures of `docs` and `benchmarks` were counted."""
GPUS = [kind for kind, chip in CHIPS.items() if chip.platform == "gpu"]


@pytest.mark.parametrize(
    ("kind", "teraflops", "bandwidth", "memory", "interconnect", "network"),
    [
        ("a100", 312, 2039, 79.3, 300, 25),
        ("a100_40gb", 312, 1555, 39.4, 300, 25),
        ("h100", 989, 3352, 79.1, 450, 50),
        ("h200", 989, 4800, 141.0, 450, 50),
        ("b200", 2250, 8000, 178.4, 900, 50),
        ("l4", 121, 300, 22.1, 32, None),
        ("a10g", 70, 600, 22.1, 32, None),
    ],
)
def test_gpu_specifications_match_the_published_values(
    kind, teraflops, bandwidth, memory, interconnect, network
):
    chip = CHIPS[kind]
    assert (chip.flops / 1e12, chip.hbm_bandwidth / 1e9) == (teraflops, bandwidth)
    assert (chip.hbm_bytes / 2**30, chip.ici_bandwidth / 1e9) == (
        pytest.approx(memory, abs=0.05),
        interconnect,
    )
    assert chip.host_bandwidth == (network and network * 1e9)
    # XLA's own estimates use the memory clock of the device: within 5 % of what is published.
    assert chip.target_config["memory_bandwidth"] == pytest.approx(chip.hbm_bandwidth, rel=0.05)


def test_the_description_of_an_h100_for_xla_is_the_one_of_all_published_counts():
    assert format_target_config(CHIPS["h100"]) == H100_TARGET


@pytest.mark.parametrize("kind", GPUS)
def test_every_gpu_has_a_complete_description_with_a_source(kind):
    text = format_target_config(CHIPS[kind])
    assert [line.split()[0] for line in text.splitlines()] == [
        line.split()[0] for line in H100_TARGET.splitlines()
    ]
    assert CHIPS[kind].device_kinds[0] in text
    assert text.count("{") == text.count("}") == 3
    assert "target: " in CHIPS[kind].source


def test_the_compute_capability_has_a_minor_version_only_if_it_is_not_zero():
    assert "cuda_compute_capability { major: 8 minor: 9 }" in format_target_config(CHIPS["l4"])
    assert "cuda_compute_capability { major: 10 }" in format_target_config(CHIPS["b200"])
    with pytest.raises(ValueError, match="TPU v4 has no description"):
        format_target_config(CHIPS["v4"])


@pytest.mark.parametrize(
    ("name", "shape", "printed"),
    [
        ("h100:8", (1, 8), "h100:8"),
        ("h100:1", (1, 1), "h100:1"),
        ("h100:3", (1, 3), "h100:3"),
        ("h100:1x8", (1, 8), "h100:8"),
        ("h100:2x8", (2, 8), "h100:2x8"),
        ("a100_40gb:16x4", (16, 4), "a100_40gb:16x4"),
    ],
)
def test_a_topology_of_gpus_is_hosts_and_gpus_of_each(name, shape, printed):
    topology = parse_topology(name)
    assert (topology.shape, topology.name) == (shape, printed)
    assert topology.num_chips == prod(shape)


@pytest.mark.parametrize(
    ("name", "slices", "message"),
    [
        ("h100:16", 1, "h100:16 has 16 GPUs on a host, which has at most 8: .*, h100:2x8$"),
        ("h100:2x16", 1, "16 GPUs on a host.* h100:4x8$"),
        ("h100:12", 1, "12 GPUs on a host.* h100:2x8$"),
        ("h100:2x2x2", 1, "no topology 'h100:2x2x2' is known: .* h100:8, or hosts x GPUs"),
        ("h100:0", 1, "no topology 'h100:0' is known"),
        ("h100:0x8", 1, "no topology 'h100:0x8' is known"),
        ("h100:-1", 1, "no topology 'h100:-1' is known"),
        ("h100", 1, "no topology 'h100' is known"),
        ("h100:8", 2, "--slices 2 with h100:8: slices are of TPUs; .* h100:2x8$"),
        ("h101:8", 1, r"no topology 'h101:8' is known \(nearest: h100, .*\); there are v2:2x2"),
        ("H200:8", 1, r"\(nearest: h200, "),
        ("a10:8", 1, r"\(nearest: a10g, .*a100"),
        ("a100-40gb:8", 1, r"\(nearest: a100_40gb"),
        ("v5:4x4", 1, r"\(nearest: v5"),
        ("teapot:8", 1, "no topology 'teapot:8' is known; there are v2:.* h100, h200, b200"),
    ],
)
def test_a_wrong_topology_is_an_error_that_names_the_right_ones(name, slices, message):
    with pytest.raises(ConfigError, match=message):
        parse_topology(name, slices)


def test_the_time_of_a_step_on_gpus_is_bounded_by_each_known_resource():
    work = {"flops": 989e9, "memory_bytes": 2 * 3352e6, "host_bytes": 3 * 450e6}
    seconds = compute_gpu_seconds(CHIPS["h100"], **work, remote_bytes=4 * 50e6)
    assert seconds == pytest.approx(
        {"compute": 1e-3, "memory": 2e-3, "interconnect": 3e-3, "between_hosts": 4e-3}
    )
    assert "between_hosts" not in compute_gpu_seconds(CHIPS["h100"], **work, remote_bytes=0)
    assert "between_hosts" not in compute_gpu_seconds(CHIPS["l4"], **work, remote_bytes=1e9)
