"""How fast a recipe's training step and its inference run on the devices that are here."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data.batches import Batch
from inception_jax.experiment import Run
from inception_jax.plan.chips import find_chip
from inception_jax.plan.compiled_step import account_program
from inception_jax.plan.layer_costs import DeviceRates, compute_layer_costs
from inception_jax.plan.outline import with_placeholder_data

MIN_SECONDS = 0.2
"""Seconds that a rate is measured over."""


def get_device_rates(device: jax.Device, dtype: str) -> DeviceRates:
    """As published of TPUs in bfloat16, else as measured here."""
    if (chip := find_chip(device.device_kind)) and dtype == "bfloat16":
        return DeviceRates(chip.flops, chip.hbm_bandwidth, "published")
    size = 1024 if device.platform == "cpu" else 8192
    square = jax.device_put(jnp.ones((size, size), dtype), device)
    long = jax.device_put(jnp.ones(size * size * 16, jnp.float32), device)
    flops = 2 * size**3 / _seconds(jax.jit(lambda x: x @ x), square)
    return DeviceRates(
        flops, 2 * long.nbytes / _seconds(jax.jit(lambda x: x + 1), long), "measured here"
    )


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """The least of as many calls as fit into `MIN_SECONDS`."""
    jax.block_until_ready(function(*arguments))
    found: list[float] = []
    while sum(found) < MIN_SECONDS or len(found) < 5:
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        found.append(time.perf_counter() - began)
    return min(found)


def measure_speed(run: Run, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Times both programs on random images, after one round that is not counted.

    Args:
      rounds: of each; the median and the spread are given.
      tell: hears what is under way.
    """
    run = with_placeholder_data(run)
    size, pixels, placement = run.config.batch_size, run.config.data.image_size, run.placement
    random = np.random.default_rng(0)
    rows = len(placement.local_rows(size))
    batch = placement.make_global_batch(
        Batch(
            random.integers(0, 256, (rows, pixels, pixels, 3), np.uint8), random.integers(0, len(run.class_names), rows, np.int32),
            np.ones(rows, np.float32), np.arange(rows, dtype=np.int64),
        ),
        size,
    )  # fmt: skip
    tell("drawing the parameters")
    state = run.initial_state()
    device = placement.mesh.local_devices[0]
    peak = get_device_rates(device, run.config.model.dtype)
    itemsize = jnp.dtype(run.config.model.dtype).itemsize
    found: dict[str, Any] = {}
    # Training is last: it uses up the state.
    for name, step, arguments in (
        ("inference", run.predict_step, (state.variables, batch.image)),
        ("training", run.train_step, (state, batch)),
    ):
        tell(f"compiling {name}")
        began = time.perf_counter()
        program = step.lower(*arguments).compile()
        compile_seconds = time.perf_counter() - began
        tell(f"timing {name}")
        seconds: list[float] = []
        for _ in range(1 + rounds):
            began = time.perf_counter()
            outputs = jax.block_until_ready(program(*arguments))
            seconds.append(time.perf_counter() - began)
            if name == "training":
                arguments = (outputs[0], batch)
        least = list(
            compute_layer_costs(
                run.measurement,
                images=size // placement.devices,
                itemsize=itemsize,
                train=name == "training",
                rates=peak,
            )
        )
        usual = median(seconds[1:])
        about = account_program(program)
        found[name] = {
            "images_per_second": size / usual,
            "spread": [size / max(seconds[1:]), size / min(seconds[1:])],
            "model_flops_utilization": sum(layer.flops for layer in least) / usual / peak.flops,
            "of_roofline": sum(layer.seconds for layer in least) / usual,
            "compile_seconds": compile_seconds, "memory_bytes": about["memory_bytes"],
            "program_flops": about["flops_per_chip"], "program_bytes": about["bytes_per_chip"],
            "layers": [layer._asdict() | {"share": layer.seconds / sum(other.seconds for other in least)} for layer in least],
        }  # fmt: skip
    return {
        "model": run.config.model.name, "dtype": run.config.model.dtype, "batch_size": size, "image_size": pixels,
        "examples_per_group": run.config.norm.examples_per_group or size, "rewrites": list(run.network.rewrites),
        "devices": placement.devices, "device_kind": device.device_kind, "rounds": rounds, "rates": peak._asdict(), **found,
    }  # fmt: skip
