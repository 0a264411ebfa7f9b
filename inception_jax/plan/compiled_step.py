"""The training step as a compiled program: what it holds, moves and computes. This is what runs in the child process."""

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

CAVEAT = "an upper bound from the compiled program and the chip's published peaks; nothing was run or measured"
READ = (
    "fits", "memory_bytes", "memory", "flops_per_chip", "bytes_per_chip", "all_reduces", "all_reduce_bytes", "all_reduce_dtypes",
    "reduce_scatters", "reduce_scatter_bytes", "all_gathers", "all_gather_bytes", "between_slices", "between_slices_bytes",
    "compile_seconds", "roofline_seconds", "roofline", "bound", "images_per_second_upper_bound",
)  # fmt: skip
"""What is read off a compiled program: None of a program that does not fit, or of a chip whose peaks are not known."""
LEVEL = "O0"
"""At which a TPU's program is compiled to be looked at."""
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def topology_placement(topology: Topology | None, parameter_shards: int = 1) -> Placement:
    """The devices of a topology, none of which need be here; or those that are.

    Raises:
      ConfigError: libtpu does not know such a topology, or `parameter_shards` does not divide it.
    """
    if topology is None:
        return all_devices_placement(parameter_shards)
    options: dict[str, Any] = {"num_slices": topology.slices} if topology.slices > 1 else {}
    if topology.kind == "v4":
        options["chip_config_name"] = (
            "megacore"  # one device a chip, as on the real one; without it two
        )
    if topology.chips == topology.slices:
        options["chips_per_host_bounds"] = (
            1,
            1,
            1,
        )  # of 2x2x1 by default, which does not divide a single chip
    try:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices
    except Exception as error:  # of several kinds
        raise ConfigError(
            f"libtpu {get_version('libtpu')} knows no {topology.name} ({_first_line(error)}); {list_topologies()}"
        ) from error
    return make_placement(devices, parameter_shards)


def collect_facts(run: Run, topology: Topology | None) -> dict[str, Any]:
    """What is known before compiling: of the recipe, and of how it lies on the devices."""
    run = with_placeholder_data(run)
    config, placement = run.config, run.placement
    devices, chips = placement.devices, _chips(placement)
    device = placement.mesh.devices.flat[0]
    chip = find_chip(device.device_kind)
    return {
        "model": config.model.name, "dtype": config.model.dtype, "parameters": run.parameters,
        "steps": run.steps, "epochs": run.steps / run.steps_per_epoch, "steps_per_epoch": run.steps_per_epoch,
        "batch_size": config.batch_size,
        "topology": topology.name if topology else "local",
        "slices": topology.slices if topology else 1,
        "device_kind": device.device_kind, "devices": devices, "chips": chips,
        "images_per_chip": _whole(config.batch_size / chips), "images_per_device": _whole(config.batch_size / devices),
        "examples_per_group": config.norm.examples_per_group or config.batch_size,
        "parameter_shards": placement.mesh.shape["parameters"],
        "state_bytes": _bytes(run.abstract_state()),
        "memory_limit_bytes": chip.hbm_bytes if chip else _limit(placement),
        "versions": {"python": platform.python_version()}
        | {name: found for name in ("jax", "jaxlib", "libtpu", "flax", "optax") if (found := get_version(name))},
    }  # fmt: skip


def compile_train_step(run: Run, topology: Topology | None) -> dict[str, Any]:
    """Compiles the training step as it is trained, and reads what the compiler says of it. Figures are of one chip, all of its cores.

    Raises:
      ConfigError: a batch that the devices do not divide, groups that are too small, a program that the compiler refuses.
    """
    run = with_placeholder_data(run)
    run.placement.local_rows(run.config.batch_size)
    grouped = compute_norm_groups(run, run.placement.devices)
    device, chips = run.placement.mesh.devices.flat[0], _chips(run.placement)
    cores, chip = run.placement.devices // chips, find_chip(device.device_kind)
    if device.platform == "tpu":
        # Of Inception-v3: O0 has the same HLO as O1, 62,705 lines, and so the same operations, bytes and all-reduces; machine code of
        # 51 MB instead of 106, 1.1 % of the memory; and takes 152 s of processor time instead of 401. Above O1, bytes that are copied
        # ahead count twice.
        jax.config.update("jax_optimization_level", LEVEL)
    state, batch = run.abstract_state(), _batch(run)
    answer: dict[str, Any] = collect_facts(run, topology) | {
        "groups": grouped.number, "devices_per_group": grouped.devices, "norm_layers": grouped.norms,
        "gradient_bytes": 4 * sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "optimization_level": LEVEL if device.platform == "tpu" else "default",
        **dict.fromkeys(READ), "measured": False, "note": CAVEAT,
    }  # fmt: skip
    began = time.perf_counter()
    try:
        program = run.train_step.lower(state, batch).compile()
        answer["compile_seconds"] = time.perf_counter() - began
        answer |= account_program(program, cores)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            needed = parse_memory_shortage(str(error), _bytes(state) + _bytes(batch), cores)
            return answer | needed | {"compile_seconds": time.perf_counter() - began}
        if topology is None:
            raise
        raise ConfigError(
            f"libtpu {get_version('libtpu')} cannot compile for {topology.name}: {_first_line(error)}; {list_topologies()}"
        ) from error
    limit = answer["memory_limit_bytes"]
    answer["fits"] = None if limit is None else answer["memory_bytes"] <= limit
    if chip:
        # What all add up is sent twice: each adds up a part, and then all parts go to all.
        sent = (
            2 * answer["all_reduce_bytes"]
            + answer["reduce_scatter_bytes"]
            + answer["all_gather_bytes"]
        )
        least = compute_roofline(
            chip, flops=answer["flops_per_chip"], hbm_bytes=answer["bytes_per_chip"], ici_bytes=sent
        )
        answer |= {
            "roofline_seconds": max(least),
            "roofline": least._asdict(),
            "bound": least.bound,
            "images_per_second_upper_bound": run.config.batch_size / max(least),
        }
    return answer


def account_program(program: jax.stages.Compiled, cores: int = 1) -> dict[str, Any]:
    """What a compiled program holds, does and sends, of a chip that is so many devices. The compiler's figures are of one."""
    memory, cost, found = (
        program.memory_analysis(),
        program.cost_analysis(),
        list(parse_collectives(program.as_text() or "")),
    )
    assert memory
    assert cost
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes
        - memory.alias_size_in_bytes,  # what goes out where it came in is counted once
        "program": memory.generated_code_size_in_bytes,
    }
    between = {
        name: sum_traffic(found, name.replace("_", "-"))
        for name in ("all_reduce", "reduce_scatter", "all_gather")
    }
    sent = sum_traffic(found, "send")
    return {
        "memory_bytes": cores * sum(parts.values()),
        "memory": {name: cores * size for name, size in parts.items()},
        "flops_per_chip": cores * cost["flops"],
        "bytes_per_chip": cores * cost["bytes accessed"],
        **{f"{name}s": one.number for name, one in between.items()},
        **{f"{name}_bytes": one.bytes for name, one in between.items()},
        "all_reduce_dtypes": between["all_reduce"].bytes_by_dtype,
        "between_slices": sent.number,
        "between_slices_bytes": sent.bytes,
    }


def parse_memory_shortage(message: str, arguments: int, cores: int = 1) -> dict[str, Any]:
    """What the compiler says where a program does not fit: the bytes it would need, and those that there are, as far as it says.

    Args:
      arguments: bytes of a device's state and batch, which one of its messages leaves out.
      cores: devices of a chip.
    """
    used = re.search(
        r"(?:Used |\()([\d.]+)([KMGT]?)(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)",
        message,
    )
    if not used:
        return {"fits": False}
    needed = float(used[1]) * UNITS[used[2]] + (arguments if "temporaries" in message else 0)
    return {
        "fits": False,
        "memory_bytes": cores * round(needed),
        "memory_limit_bytes": cores * round(float(used[3]) * UNITS[used[4]]),
    }


def _batch(run: Run) -> Batch:
    """The shapes of a global batch."""
    size, pixels = run.config.batch_size, run.config.data.image_size
    of = partial(jax.ShapeDtypeStruct, sharding=run.placement.batch_sharding)
    return Batch(
        image=of((size, pixels, pixels, 3), jnp.uint8), label=of((size,), jnp.int32), weight=of((size,), jnp.float32),
        position=of((size,), jnp.uint32),
    )  # fmt: skip


def _chips(placement: Placement) -> int:
    """Some chips are two devices."""
    devices = list(placement.mesh.devices.flat)
    if not all(hasattr(device, "coords") for device in devices):
        return placement.devices
    return len({(getattr(device, "slice_index", None), *device.coords) for device in devices})


def _limit(placement: Placement) -> int | None:
    """Bytes of a device that is here, where it says; of a CPU, its part of this machine's memory."""
    device = placement.mesh.devices.flat[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // placement.devices
    return (device.memory_stats() or {}).get("bytes_limit")


def _bytes(tree: Any) -> int:
    """On a device, of arrays that are laid out over all."""
    return sum(
        prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
