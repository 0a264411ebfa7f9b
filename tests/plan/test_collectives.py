"""Collectives: counted in programs that are compiled here, and in the text of others."""

import os
import subprocess
import sys

import pytest

from inception_jax.plan.collectives import (
    parse_collectives,
    parse_groups,
    sum_host_traffic,
    sum_traffic,
)
from tests.conftest import OPTIMIZED_FLAGS

PROGRAM = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
split, replicated = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
summed = jax.jit(lambda x: (x.sum(0), (x.astype(jnp.int32) * 2).sum()), out_shardings=replicated)
gathered = jax.jit(lambda x: x + 1, out_shardings=replicated)
scatter = lambda x: jax.lax.psum_scatter(x, "data", tiled=True)
specs = {"in_specs": P(), "out_specs": P("data")}
scattered = jax.jit(jax.shard_map(scatter, mesh=mesh, **specs, check_vma=False))
for function, sharding in (summed, split), (gathered, split), (scattered, replicated):
    x = jax.ShapeDtypeStruct((64, 48), jnp.float32, sharding=sharding)
    print(function.lower(x).compile().as_text())
    print("=====")
"""

# Collectives as XLA writes them for a TPU: numbered tuples, layouts with brackets, pairs.
TEXT = """
HloModule jit_step, entry_computation_layout={(f32[8]{0})->f32[8]{0}}
%region_0.4 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[] add(%a, %b), metadata={op_name="an all-reduce(x) in a name"}
}
ENTRY %main {
  %all-reduce.1 = (f32[3,3,32]{2,1,0:T(8,128)}, bf16[100]{0:T(256)(2,1)}, f32[]{:T(128)}, \
f32[1]{0}, f32[1]{0}, /*index=5*/f32[1]{0}) \
all-reduce(%p0, %p1, %p2, %p3, %p4, %p5), channel_id=1, replica_groups=[1,256]<=[256], \
metadata={op_name="jit(step)/mean"}
  %all-reduce-start.2 = f32[1000]{0} all-reduce-start(%q), channel_id=2, \
replica_groups={{0,1},{2,3}}, to_apply=%region_0.4
  %all-reduce-done.2 = f32[1000]{0} all-reduce-done(%all-reduce-start.2)
  %get-tuple-element.7 = f32[3,3,32]{2,1,0} get-tuple-element(%all-reduce.1), index=0
  %all-gather-start.3 = (f32[16]{0}, f32[128]{0}) all-gather-start(%r), channel_id=3, \
replica_groups=[1,8]<=[8], dimensions={0}
  %all-gather-done.3 = f32[128]{0} all-gather-done(%all-gather-start.3)
  %reduce-scatter.4 = bf16[16]{0} reduce-scatter(%s), channel_id=4, \
replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %send = (f32[1,1,128]{2,1,0:T(1,128)}, u32[], token[]) send(%all-reduce.3, %after-all), \
channel_id=2, is_host_transfer=true, \
frontend_attributes={_xla_host_transfer_rendezvous="all-reduce_0",\
_xla_megascale_transfer_type="ALL_REDUCE"}
  %send.1 = (f32[8]{0}, u32[], token[]) send(%x, %after-all), channel_id=9, is_host_transfer=true
  ROOT %fusion = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%fused_all-reduce
}
"""


def test_collectives_are_counted_in_programs_compiled_for_eight_devices():
    program = f"import jax; jax.config.update('jax_num_cpu_devices', 8)\n{PROGRAM}"
    environment = {**os.environ, "XLA_FLAGS": OPTIMIZED_FLAGS}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    summed, gathered, scattered, _ = (
        list(parse_collectives(text)) for text in done.stdout.split("=====")
    )
    sums = sum_traffic(summed, "all-reduce")
    assert sums.bytes_by_dtype == {"float32": 48 * 4, "int32": 4}
    assert 1 <= sums.num_operations <= 2
    assert sum_traffic(gathered, "all-gather") == (1, {"float32": 64 * 48 * 4})
    assert not sum_traffic(gathered, "all-reduce").num_operations
    assert sum_traffic(scattered, "reduce-scatter") == (1, {"float32": 64 * 48 * 4})


def test_collectives_are_counted_in_the_text_of_a_tpu_program():
    collectives = list(parse_collectives(TEXT))
    assert sum_traffic(collectives, "all-reduce") == (
        2,
        {"bfloat16": 200, "float32": (288 + 4 + 1000) * 4},
    )
    assert sum_traffic(collectives, "all-gather") == (1, {"float32": 128 * 4})
    assert sum_traffic(collectives, "reduce-scatter") == (1, {"bfloat16": 4 * 16 * 2})
    assert sum_traffic(collectives, "send") == (1, {"float32": 128 * 4})


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[2,4]<=[8]", 4),
        ("mesh['data'=8] {'data'}", 8),
        ("mesh['data'=4,'parameters'=2] {'data'}", 4),
        ("mesh['data'=4,'parameters'=2] {'data','parameters'}", 8),
        ("mesh['data'=8] {'data':(1)2}", 2),
    ],
)
def test_replica_groups_of_a_reduce_scatter_are_read_as_lists_and_as_mesh_axes(groups, devices):
    line = (
        f"  %a = f32[16]{{0}} reduce-scatter(%b), channel_id=1, replica_groups={groups}, "
        "use_global_device_ids=true, dimensions={0}"
    )
    assert sum_traffic(parse_collectives(line), "reduce-scatter") == (
        1,
        {"float32": 16 * devices * 4},
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "count"),
    [
        ("pred[3]", "bool", 3),
        ("s4[5]", "int4", 3),
        ("f8e4m3fn[10]", "f8e4m3fn", 10),
        ("c64[2]", "complex64", 16),
        ("u32[]", "uint32", 4),
    ],
)
def test_collective_bytes_follow_the_width_of_the_dtype(shape, dtype, count):
    line = f"  ROOT %a = {shape}{{0}} all-reduce(%b), to_apply=%c"
    traffic = sum_traffic(parse_collectives(line), "all-reduce")
    assert traffic.bytes_by_dtype == {dtype: count}


def format_reduce_scatter(groups, devices=8):
    return (
        f"HloModule jit_step, is_scheduled=true, replica_count=1, num_partitions={devices}\n"
        f"  %reduce-scatter.4 = f32[16]{{0}} reduce-scatter(%s), channel_id=4, {groups}, "
        "dimensions={0}\n"
    )


@pytest.mark.parametrize(
    ("groups", "participants"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups={}", 8),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['data'=4,'model'=2] {'data'}", 4),
        ("replica_groups=mesh['data'=4,'model'=2] {'model','data'}", 8),
        ("replica_groups=mesh['data'=8] {'data':(1)2}", 2),
    ],
)
def test_the_devices_of_a_group_are_counted_in_every_form_that_xla_writes(groups, participants):
    (collective,) = parse_collectives(format_reduce_scatter(groups))
    assert collective.bytes_by_dtype == {"float32": participants * 64}


@pytest.mark.parametrize(
    "groups",
    [
        "replica_groups=mesh['data'=8] {'rows'}",
        "replica_groups=mesh['data'=8] {data}",
        "replica_groups=axes(data)",
        "source_target_pairs={}",
    ],
)
def test_groups_of_an_unknown_form_are_an_error(groups):
    with pytest.raises(ValueError, match="devices are grouped in a form that is not known here"):
        list(parse_collectives(format_reduce_scatter(groups)))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("{{0,1},{2,3},{4,5},{6,7}}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['data'=4,'model'=2] {'data'}", [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ("mesh['data'=4,'model'=2] {'model'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("mesh['data'=8] {'data':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['data'=8] {'data':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("mesh['data'=8] {'data':(4)2}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("mesh['data'=4,'model'=2] {'data','model'}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ],
)
def test_the_devices_of_each_group_are_read_in_every_form(groups, expected):
    assert parse_groups(f"%p), replica_groups={groups}, to_apply=%add", 8) == expected


def test_a_mesh_whose_devices_are_in_another_order_is_an_error_only_where_their_order_counts():
    attributes = "replica_groups=mesh['data'=8] device_ids=(...) {'data':(1)2}"
    with pytest.raises(ValueError, match="a form that is not known here"):
        parse_groups(attributes, 8)
    assert [len(group) for group in parse_groups(attributes, 8, in_order=False)] == [2, 2, 2, 2]


GPU_TEXT = """
HloModule jit_step, is_scheduled=true, num_partitions=16
ENTRY %main {
  %all-reduce-start = f32[1000]{0} all-reduce-start(%a), channel_id=1, \
replica_groups=mesh['axis_0'=16,'axis_1'=1] {'axis_0'}, use_global_device_ids=true, to_apply=%add
  %all-reduce-done = f32[1000]{0} all-reduce-done(%all-reduce-start)
  %reduce-scatter-start = ((f32[800]{0}), f32[100]{0}) reduce-scatter-start(%b), channel_id=2, \
replica_groups=[2,8]<=[16], dimensions={0}, to_apply=%add
  %reduce-scatter-done = f32[100]{0} reduce-scatter-done(%reduce-scatter-start)
  %all-gather-start = (bf16[10]{0}, bf16[20]{0}) all-gather-start(%c), channel_id=3, \
replica_groups=[8,2]<=[2,8]T(1,0), dimensions={0}
  ROOT %all-gather-done = bf16[20]{0} all-gather-done(%all-gather-start)
}
"""


def test_collectives_of_gpus_are_counted_where_they_start_with_the_whole_array():
    collectives = list(parse_collectives(GPU_TEXT))
    assert [(item.operation, item.bytes) for item in collectives] == [
        ("all-reduce", 4000), ("reduce-scatter", 3200), ("all-gather", 40),
    ]  # fmt: skip


def test_traffic_between_hosts_is_that_of_groups_with_devices_of_several_hosts():
    collectives = list(parse_collectives(GPU_TEXT))
    two = sum_host_traffic(collectives, [0] * 8 + [1] * 8)
    # The all-reduce crosses and the pairs of the all-gather do; the reduce-scatter does not.
    assert (two.between_hosts, two.between_hosts_bytes) == (2, 4040)
    assert two.sent_within_host == pytest.approx(7 / 8 * (2 * 4000 + 3200))
    assert two.sent_between_hosts == pytest.approx(1 / 2 * (2 * 4000 / 8 + 40))
    one = sum_host_traffic(collectives, [0] * 16)
    assert one[1:] == (0, 0, 0)
    assert one.sent_within_host == pytest.approx(15 / 16 * 8000 + 7 / 8 * 3200 + 1 / 2 * 40)


def test_a_program_without_collectives_sends_nothing():
    assert sum_host_traffic([], [0, 0]) == (0, 0, 0, 0)
