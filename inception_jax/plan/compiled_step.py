"""The training step as a compiled program: its memory, operations and traffic.

These functions run in the subprocess of `compile_process`.
"""

import os
import platform
import re
import time
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from inception_jax.checkpointing.run_record import get_version
from inception_jax.config import ConfigError
from inception_jax.data.batches import Batch
from inception_jax.distributed.mesh import Placement, all_devices_placement, make_placement
from inception_jax.experiment import Run
from inception_jax.plan.chips import Topology, compute_roofline, find_chip, list_topologies
from inception_jax.plan.collectives import parse_collectives, sum_traffic
from inception_jax.plan.norm_groups import compute_norm_groups
from inception_jax.plan.outline import with_placeholder_data

UPPER_BOUND_NOTE = (
    "an upper bound from the compiled program and the chip's published peaks; "
    "nothing was run or measured"
)
COMPILED_FIELDS = (
    "fits", "memory_bytes", "memory", "flops_per_chip", "bytes_per_chip",
    "all_reduces", "all_reduce_bytes", "all_reduce_dtypes", "reduce_scatters",
    "reduce_scatter_bytes", "all_gathers", "all_gather_bytes",
    "between_slices", "between_slices_bytes", "compile_seconds",
    "roofline_seconds", "roofline", "bound", "images_per_second_upper_bound",
)  # fmt: skip
"""The fields that come from a compiled program; None for one that does not fit. Those of the
roofline are None too for a chip whose peaks are unknown."""
OPTIMIZATION_LEVEL = "O0"
"""The level at which a program for a TPU is compiled for a plan.

Note: for Inception-v3, O0 has the same HLO as O1 (62,705 lines), and so the same operations, bytes
and all-reduces. It has 51 MB of machine code instead of 106 MB, which is 1.1 % of the memory, and
takes 152 s of processor time instead of 401 s. Above O1, bytes that are copied ahead count
twice."""
BINARY_PREFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def topology_placement(topology: Topology | None, parameter_shards: int = 1) -> Placement:
    """Returns a placement on the devices of a topology, none of which need be present.

    Args:
      topology: The topology; None for local devices.
      parameter_shards: The number of devices that share each parameter.

    Raises:
      ConfigError: libtpu does not support the topology, or `parameter_shards` does not divide it.
    """
    if topology is None:
        return all_devices_placement(parameter_shards)
    options: dict[str, Any] = {}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    if topology.kind == "v4":
        # One device for each chip, as on real hosts; the default is two.
        options["chip_config_name"] = "megacore"
    if topology.num_chips == topology.slices:
        # The default, 2x2x1, does not divide a single chip.
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices
    except Exception as error:  # of several classes
        raise ConfigError(
            f"libtpu {get_version('libtpu')} knows no {topology.name} "
            f"({_get_first_line(error)}); {list_topologies()}"
        ) from error
    return make_placement(devices, parameter_shards)


def collect_facts(run: Run, topology: Topology | None) -> dict[str, Any]:
    """Returns what is known before compilation: the recipe's size, and its share on each device."""
    run = with_placeholder_data(run)
    config, placement = run.config, run.placement
    devices, chips = placement.devices, _count_chips(placement)
    device = placement.mesh.devices.flat[0]
    chip = find_chip(device.device_kind)
    packages = {name: get_version(name) for name in ("jax", "jaxlib", "libtpu", "flax", "optax")}
    installed = {name: version for name, version in packages.items() if version}
    return {
        "model": config.model.name,
        "dtype": config.model.dtype,
        "parameters": run.parameters,
        "steps": run.steps,
        "epochs": run.steps / run.steps_per_epoch,
        "steps_per_epoch": run.steps_per_epoch,
        "batch_size": config.batch_size,
        "topology": topology.name if topology else "local",
        "slices": topology.slices if topology else 1,
        "device_kind": device.device_kind,
        "devices": devices,
        "chips": chips,
        "images_per_chip": _as_int_if_whole(config.batch_size / chips),
        "images_per_device": _as_int_if_whole(config.batch_size / devices),
        "examples_per_group": config.norm.examples_per_group or config.batch_size,
        "parameter_shards": placement.mesh.shape["parameters"],
        "state_bytes": _count_bytes_per_device(run.abstract_state()),
        "memory_limit_bytes": chip.hbm_bytes if chip else _get_memory_limit(placement),
        "versions": {"python": platform.python_version(), **installed},
    }


def compile_train_step(run: Run, topology: Topology | None) -> dict[str, Any]:
    """Compiles the training step of a run, and returns its costs on one chip, with all its cores.

    Returns:
      `collect_facts`, norm groups, and `COMPILED_FIELDS`.

    Raises:
      ConfigError: The devices do not divide the batch, norm groups are too small, or the compiler
        refuses the program.
    """
    run = with_placeholder_data(run)
    run.placement.local_rows(run.config.batch_size)
    groups = compute_norm_groups(run, run.placement.devices)
    device = run.placement.mesh.devices.flat[0]
    cores = run.placement.devices // _count_chips(run.placement)
    is_tpu = device.platform == "tpu"
    if is_tpu:
        jax.config.update("jax_optimization_level", OPTIMIZATION_LEVEL)
    state, batch = run.abstract_state(), _make_abstract_batch(run)
    answer: dict[str, Any] = {
        **collect_facts(run, topology),
        "groups": groups.num_groups,
        "devices_per_group": groups.devices_per_group,
        "norm_layers": groups.num_layers,
        "gradient_bytes": 4 * sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "optimization_level": OPTIMIZATION_LEVEL if is_tpu else "default",
        **dict.fromkeys(COMPILED_FIELDS),
        "measured": False,
        "note": UPPER_BOUND_NOTE,
    }
    began = time.perf_counter()
    try:
        program = run.train_step.lower(state, batch).compile()
        answer["compile_seconds"] = time.perf_counter() - began
        answer |= summarize_program(program, cores)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            arguments = _count_bytes_per_device(state) + _count_bytes_per_device(batch)
            shortage = parse_memory_shortage(str(error), arguments, cores)
            return answer | shortage | {"compile_seconds": time.perf_counter() - began}
        if topology is None:
            raise
        raise ConfigError(
            f"libtpu {get_version('libtpu')} cannot compile for {topology.name}: "
            f"{_get_first_line(error)}; {list_topologies()}"
        ) from error
    limit = answer["memory_limit_bytes"]
    answer["fits"] = None if limit is None else answer["memory_bytes"] <= limit
    return answer | _compute_bounds(answer, device.device_kind, run.config.batch_size)


def _compute_bounds(answer: dict[str, Any], device_kind: str, batch_size: int) -> dict[str, Any]:
    """Returns the fields of the roofline; none for a chip whose peaks are unknown."""
    if not (chip := find_chip(device_kind)):
        return {}
    # An all-reduce sends its bytes twice: it is a reduce-scatter and an all-gather.
    sent = sum(
        factor * answer[name]
        for factor, name in (
            (2, "all_reduce_bytes"),
            (1, "reduce_scatter_bytes"),
            (1, "all_gather_bytes"),
        )
    )
    flops, hbm_bytes = answer["flops_per_chip"], answer["bytes_per_chip"]
    roofline = compute_roofline(chip, flops=flops, hbm_bytes=hbm_bytes, ici_bytes=sent)
    return {
        "roofline_seconds": max(roofline),
        "roofline": roofline._asdict(),
        "bound": roofline.bound,
        "images_per_second_upper_bound": batch_size / max(roofline),
    }


def summarize_program(program: jax.stages.Compiled, cores: int = 1) -> dict[str, Any]:
    """Returns the memory, operations and traffic of a compiled program on one chip.

    Args:
      program: The program. The compiler's numbers are for one device.
      cores: The number of devices of a chip.
    """
    memory, cost = program.memory_analysis(), program.cost_analysis()
    collectives = list(parse_collectives(program.as_text() or ""))
    assert memory
    assert cost
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        # An output in the buffer of a donated argument is counted once.
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
    }
    traffic = {
        name: sum_traffic(collectives, name.replace("_", "-"))
        for name in ("all_reduce", "reduce_scatter", "all_gather")
    }
    between_slices = sum_traffic(collectives, "send")
    return {
        "memory_bytes": cores * sum(parts.values()),
        "memory": {name: cores * size for name, size in parts.items()},
        "flops_per_chip": cores * cost["flops"],
        "bytes_per_chip": cores * cost["bytes accessed"],
        **{f"{name}s": item.num_operations for name, item in traffic.items()},
        **{f"{name}_bytes": item.bytes for name, item in traffic.items()},
        "all_reduce_dtypes": traffic["all_reduce"].bytes_by_dtype,
        "between_slices": between_slices.num_operations,
        "between_slices_bytes": between_slices.bytes,
    }


def parse_memory_shortage(message: str, arguments: int, cores: int = 1) -> dict[str, Any]:
    """Returns the needed and the available bytes from the compiler's error, if it has them.

    Args:
      message: The compiler's message for a program that does not fit.
      arguments: Bytes of a device's state and batch, which one form of the message leaves out.
      cores: The number of devices of a chip.
    """
    match = re.search(
        r"(?:Used |\()([\d.]+)([KMGT]?)(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)",
        message,
    )
    if not match:
        return {"fits": False}
    needed = float(match[1]) * BINARY_PREFIXES[match[2]]
    available = float(match[3]) * BINARY_PREFIXES[match[4]]
    if "temporaries" in message:
        needed += arguments
    return {
        "fits": False,
        "memory_bytes": cores * round(needed),
        "memory_limit_bytes": cores * round(available),
    }


def _make_abstract_batch(run: Run) -> Batch:
    """Returns the shapes, dtypes and shardings of a global batch."""
    size, pixels = run.config.batch_size, run.config.data.image_size
    array = partial(jax.ShapeDtypeStruct, sharding=run.placement.batch_sharding)
    return Batch(
        image=array((size, pixels, pixels, 3), jnp.uint8),
        label=array((size,), jnp.int32),
        weight=array((size,), jnp.float32),
        position=array((size,), jnp.uint32),
    )


def _count_chips(placement: Placement) -> int:
    """Returns the number of chips; some chips are two devices."""
    devices = list(placement.mesh.devices.flat)
    if not all(hasattr(device, "coords") for device in devices):
        return placement.devices
    return len({(getattr(device, "slice_index", None), *device.coords) for device in devices})


def _get_memory_limit(placement: Placement) -> int | None:
    """Returns the bytes of a local device, if it reports them; for a CPU, its share of the host."""
    device = placement.mesh.devices.flat[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // placement.devices
    return (device.memory_stats() or {}).get("bytes_limit")


def _count_bytes_per_device(tree: Any) -> int:
    """Returns the bytes on one device of arrays that are sharded over all."""
    return sum(
        prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _as_int_if_whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _get_first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
