"""The training step as a compiled program: its memory, operations and traffic.

These functions run in the subprocess of `compile_process`.
"""

import logging
import math
import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import replace
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
from inception_jax.plan.chips import (
    Topology,
    compute_gpu_seconds,
    compute_roofline,
    find_chip,
    format_target_config,
    list_topologies,
)
from inception_jax.plan.collectives import (
    Collective,
    parse_collectives,
    sum_host_traffic,
    sum_traffic,
)
from inception_jax.plan.compile_process import MEMORY_FRACTION_VARIABLES
from inception_jax.plan.hlo import parse_program
from inception_jax.plan.layer_costs import DeviceRates, compute_layer_costs
from inception_jax.plan.norm_groups import compute_norm_groups
from inception_jax.plan.outline import with_placeholder_data
from inception_jax.plan.program import LAUNCH_SECONDS, count_program

UPPER_BOUND_NOTE = (
    "an upper bound from the compiled program and the chip's published peaks; "
    "nothing was run or measured"
)
GPU_NOTE = f"{UPPER_BOUND_NOTE}, and cuDNN's workspaces and choice of algorithms are not seen"
COMPILED_FIELDS = (
    "fits", "memory_bytes", "memory", "flops_per_chip", "bytes_per_chip",
    "all_reduces", "all_reduce_bytes", "all_reduce_dtypes", "reduce_scatters",
    "reduce_scatter_bytes", "all_gathers", "all_gather_bytes",
    "between_slices", "between_slices_bytes", "compile_seconds",
    "roofline_seconds", "roofline", "bound", "images_per_second_upper_bound",
    "kernels", "kernels_by_kind", "bytes_counted", "bytes_by_kind", "unknown_loops",
    "launch_seconds", "between_hosts", "between_hosts_bytes", "gathers_images",
)  # fmt: skip
"""The fields that come from a compiled program; None for one that does not fit. Those of the
roofline are None too for a chip whose peaks are unknown, and those from `kernels` on for TPUs and
CPUs."""
CUDA_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")
DEFAULT_MEMORY_FRACTION = 0.75
"""The part of a GPU's memory that JAX takes."""
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
      ConfigError: The compiler does not support the topology, or `parameter_shards` does not divide
        it.
    """
    if topology is None:
        return all_devices_placement(parameter_shards)
    describe = _describe_gpus if topology.chip.platform == "gpu" else _describe_tpus
    return make_placement(describe(topology), parameter_shards)


def _describe_tpus(topology: Topology) -> Sequence[Any]:
    """Returns the devices of a topology of TPUs."""
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
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices
    except Exception as error:  # of several classes
        raise ConfigError(
            f"{_format_compiler(topology)} knows no {topology.name} "
            f"({_get_first_line(error)}); {list_topologies()}"
        ) from error


class _ErrorRecorder(logging.Handler):
    """A handler that keeps the exceptions that JAX logs and does not raise."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])


def _describe_gpus(topology: Topology) -> Sequence[Any]:
    """Returns the devices of a topology of GPUs."""
    hosts, gpus = topology.shape
    recorder, logger = _ErrorRecorder(), logging.getLogger("jax._src.xla_bridge")
    logger.addHandler(recorder)
    try:
        return topologies.get_topology_desc(
            topology.name,
            "cuda",
            target_config=format_target_config(topology.chip),
            topology=f"1x{hosts}x{gpus}",
        ).devices
    except Exception as error:  # of several classes
        cause = recorder.errors[0] if recorder.errors else error
        raise ConfigError(
            f"{_format_compiler(topology)} cannot be used for {topology.name} "
            f"({_get_first_line(cause)}): install wheels of the version of jax "
            f"{get_version('jax')}, pip install -U 'inception-jax[cuda]', and with an older driver "
            "of NVIDIA those for CUDA 12, pip install -U 'jax[cuda12]'"
        ) from error
    finally:
        logger.removeHandler(recorder)


def _format_compiler(topology: Topology) -> str:
    """Returns the name and version of the package that compiles for a topology."""
    names = CUDA_PLUGINS if topology.chip.platform == "gpu" else ("libtpu",)
    installed = [f"{name} {version}" for name in names if (version := get_version(name))]
    return installed[0] if installed else names[0]


def collect_facts(run: Run, topology: Topology | None) -> dict[str, Any]:
    """Returns what is known before compilation: the recipe's size, and its share on each device."""
    run = with_placeholder_data(run)
    config, placement = run.config, run.placement
    devices, chips = placement.devices, _count_chips(placement)
    device = placement.mesh.devices.flat[0]
    names = ("jax", "jaxlib", "libtpu", *CUDA_PLUGINS, "flax", "optax")
    packages = {name: get_version(name) for name in names}
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
        "platform": placement.platform,
        "device_kind": device.device_kind,
        "devices": devices,
        "chips": chips,
        "images_per_chip": _as_int_if_whole(config.batch_size / chips),
        "images_per_device": _as_int_if_whole(config.batch_size / devices),
        "examples_per_group": config.norm.examples_per_group or config.batch_size,
        "parameter_shards": placement.mesh.shape["parameters"],
        "state_bytes": _count_bytes_per_device(run.abstract_state()),
        "memory_limit_bytes": _get_memory_limit(placement, topology),
        "memory_fraction": (
            _read_memory_fraction() if topology and topology.chip.platform == "gpu" else None
        ),
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
    is_tpu, is_gpu = device.platform == "tpu", device.platform == "gpu"
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
        "note": _make_gpu_note(run) if is_gpu else UPPER_BOUND_NOTE,
    }
    began = time.perf_counter()
    try:
        if is_gpu and topology:  # not JAX's default platform, and so named
            traced = run.train_step.trace(state, batch)
            program = traced.lower(lowering_platforms=("cuda",)).compile()
        else:
            program = run.train_step.lower(state, batch).compile()
        answer["compile_seconds"] = time.perf_counter() - began
        answer |= _summarize_for_gpus(program, run) if is_gpu else summarize_program(program, cores)
        if is_gpu:
            statistics = _count_bytes_per_device(state.batch_stats)
            answer["gathers_images"] = _gathers_images(answer, statistics)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            arguments = _count_bytes_per_device(state) + _count_bytes_per_device(batch)
            shortage = parse_memory_shortage(str(error), arguments, cores)
            return answer | shortage | {"compile_seconds": time.perf_counter() - began}
        if topology is None:
            raise
        raise ConfigError(
            f"{_format_compiler(topology)} cannot compile for {topology.name}: "
            f"{_get_first_line(error)}; {list_topologies()}"
        ) from error
    limit = answer["memory_limit_bytes"]
    answer["fits"] = None if limit is None else answer["memory_bytes"] <= limit
    sent = answer.pop("sent", {})
    return answer | _compute_bounds(answer, device.device_kind, run.config.batch_size, sent)


def _gathers_images(answer: dict[str, Any], statistics: int) -> bool:
    """Returns whether norm groups that cross devices make them gather images.

    Groups that do also gather sums: two forward and two backward, a float32 for each statistic of a
    norm and each device.

    Args:
      answer: The answer, with its all-gathers.
      statistics: Bytes of all running means and variances.
    """
    gathered_sums = 2 * statistics * answer["devices"]
    return (
        answer["devices_per_group"] > 1
        and answer["parameter_shards"] == 1
        and answer["examples_per_group"] < answer["batch_size"]
        and answer["all_gather_bytes"] > 2 * gathered_sums
    )


def _make_gpu_note(run: Run) -> str:
    """Returns what the figures for GPUs leave out."""
    note = GPU_NOTE
    if run.num_microbatches > 1:
        note += "; what devices exchange in each microbatch counts once"
    if run.config.model.dtype == "bfloat16":
        return note
    return (
        f"{note}; the tensor cores' peak is that of bfloat16, above that of "
        f"{run.config.model.dtype}"
    )


def _compute_bounds(
    answer: dict[str, Any], device_kind: str, batch_size: int, sent: dict[str, float]
) -> dict[str, Any]:
    """Returns the fields of the roofline; none for a chip whose peaks are unknown.

    Args:
      answer: The other fields.
      device_kind: JAX's name of the devices.
      batch_size: The number of images in a step.
      sent: For GPUs, the bytes that one sends within its host and to others.
    """
    if not (chip := find_chip(device_kind)):
        return {}
    flops, moved = answer["flops_per_chip"], answer["bytes_per_chip"]
    if chip.platform == "gpu":
        seconds = compute_gpu_seconds(chip, flops=flops, memory_bytes=moved, **sent)
    else:
        # An all-reduce sends its bytes twice: it is a reduce-scatter and an all-gather.
        ici_bytes = sum(
            factor * answer[name]
            for factor, name in (
                (2, "all_reduce_bytes"),
                (1, "reduce_scatter_bytes"),
                (1, "all_gather_bytes"),
            )
        )
        roofline = compute_roofline(chip, flops=flops, hbm_bytes=moved, ici_bytes=ici_bytes)
        seconds = roofline._asdict()
    longest = max(seconds.values())
    return {
        "roofline_seconds": longest,
        "roofline": seconds,
        "bound": max(seconds, key=lambda name: seconds[name]),
        "images_per_second_upper_bound": batch_size / longest,
    }


def summarize_program(program: jax.stages.Compiled, cores: int = 1) -> dict[str, Any]:
    """Returns the memory, operations and traffic of a compiled program on one chip.

    Args:
      program: The program. The compiler's numbers are for one device.
      cores: The number of devices of a chip.
    """
    cost = program.cost_analysis()
    assert cost
    return {
        **_summarize_memory(program, cores),
        "flops_per_chip": cores * cost["flops"],
        "bytes_per_chip": cores * cost["bytes accessed"],
        **_summarize_traffic(list(parse_collectives(program.as_text() or ""))),
    }


def _summarize_for_gpus(program: jax.stages.Compiled, run: Run) -> dict[str, Any]:
    """Returns the memory, operations, kernels and traffic of a training step on one GPU.

    XLA counts neither operations nor bytes of a program for a GPU that is not here. The operations
    are those of the network's table, the bytes those of the program's text.
    """
    text = program.as_text() or ""
    count, collectives = count_program(parse_program(text)), list(parse_collectives(text))
    hosts = [device.process_index for device in run.placement.mesh.devices.flat]
    traffic = sum_host_traffic(collectives, hosts)
    return {
        **_summarize_memory(program),
        "flops_per_chip": _count_table_flops(run),
        "bytes_per_chip": count.refined_bytes,
        **_summarize_traffic(collectives),
        "kernels": count.kernels,
        "kernels_by_kind": count.kernels_by_kind,
        "bytes_counted": count.full_bytes,
        "bytes_by_kind": count.bytes_by_kind,
        "unknown_loops": count.unknown_loops,
        "launch_seconds": count.kernels * LAUNCH_SECONDS,
        "between_hosts": traffic.between_hosts,
        "between_hosts_bytes": traffic.between_hosts_bytes,
        "sent": {
            "host_bytes": traffic.sent_within_host,
            "remote_bytes": traffic.sent_between_hosts,
        },
    }


def _count_table_flops(run: Run) -> int:
    """Returns the operations of a training step on one device, counted in the network's table.

    They are those of convolutions and linear layers, forward and backward, with the auxiliary heads
    where these are trained.
    """
    measured, model = run.measurement, run.config.model
    if model.aux:
        measured = replace(measured, rows=(*measured.rows, *measured.aux_rows))
    costs = compute_layer_costs(
        measured,
        images=run.config.batch_size // run.placement.devices,
        itemsize=jnp.dtype(model.dtype).itemsize,
        train=True,
        rates=DeviceRates(1.0, 1.0, "not used"),
    )
    return sum(cost.flops for cost in costs)


def _summarize_memory(program: jax.stages.Compiled, cores: int = 1) -> dict[str, Any]:
    """Returns the memory of a compiled program on one chip."""
    memory = program.memory_analysis()
    assert memory
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        # An output in the buffer of a donated argument is counted once.
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
    }
    return {
        "memory_bytes": cores * sum(parts.values()),
        "memory": {name: cores * size for name, size in parts.items()},
    }


def _summarize_traffic(collectives: Sequence[Collective]) -> dict[str, Any]:
    """Returns the collectives of a program by operation, and their bytes."""
    traffic = {
        name: sum_traffic(collectives, name.replace("_", "-"))
        for name in ("all_reduce", "reduce_scatter", "all_gather")
    }
    between_slices = sum_traffic(collectives, "send")
    return {
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


def _get_memory_limit(placement: Placement, topology: Topology | None) -> int | None:
    """Returns the bytes of a device that a program may take; None if unknown.

    They are the published ones of a TPU, JAX's part of them for a topology of GPUs, those that a
    local GPU reports, and for a CPU its share of the host.
    """
    device = placement.mesh.devices.flat[0]
    chip = find_chip(device.device_kind)
    if chip and chip.platform == "tpu":
        return chip.hbm_bytes
    if chip and topology:
        return int(chip.hbm_bytes * _read_memory_fraction())
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // placement.devices
    return (device.memory_stats() or {}).get("bytes_limit")


def _read_memory_fraction() -> float:
    """Returns the part of a GPU's memory that JAX takes, by its variables of the environment.

    Raises:
      ConfigError: A variable is not a positive number.
    """
    for name in MEMORY_FRACTION_VARIABLES:
        if not (text := os.environ.get(name)):
            continue
        try:
            fraction = float(text)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction < math.inf:
            raise ConfigError(f"{name} is {text!r}: set it to a positive number, 0.75 for instance")
        return fraction
    return DEFAULT_MEMORY_FRACTION


def _count_bytes_per_device(tree: Any) -> int:
    """Returns the bytes on one device of arrays that are sharded over all."""
    return sum(
        prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _as_int_if_whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _get_first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
