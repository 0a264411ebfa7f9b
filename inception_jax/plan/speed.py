"""The measured speed of a recipe's training step and inference on local devices."""

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
from inception_jax.plan.compiled_step import summarize_program
from inception_jax.plan.layer_costs import DeviceRates, LayerCost, compute_layer_costs
from inception_jax.plan.outline import with_placeholder_data

MIN_SECONDS = 0.2
"""The time over which a rate of the device is measured, at least."""


def get_device_rates(device: jax.Device, dtype: str) -> DeviceRates:
    """Returns the peak rates of a device.

    They are the published ones for a TPU in bfloat16, otherwise measured: a matrix product, and an
    addition to 16 M (CPU) or 1 G numbers.
    """
    chip = find_chip(device.device_kind)
    if chip and chip.platform == "tpu" and dtype == "bfloat16":
        return DeviceRates(chip.flops, chip.hbm_bandwidth, "published")
    size = 1024 if device.platform == "cpu" else 8192
    matrix = jax.device_put(jnp.ones((size, size), dtype), device)
    vector = jax.device_put(jnp.ones(size * size * 16, jnp.float32), device)
    flops = 2 * size**3 / _measure_seconds(jax.jit(lambda x: x @ x), matrix)
    bandwidth = 2 * vector.nbytes / _measure_seconds(jax.jit(lambda x: x + 1), vector)
    return DeviceRates(flops, bandwidth, "measured here")


def _measure_seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns the shortest of as many calls as fit into `MIN_SECONDS`, at least five."""
    jax.block_until_ready(function(*arguments))
    times: list[float] = []
    while sum(times) < MIN_SECONDS or len(times) < 5:
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


def measure_speed(run: Run, rounds: int, log_line: Callable[[str], None]) -> dict[str, Any]:
    """Times inference and the training step on random images.

    One more round before the timed ones is not counted.

    Args:
      run: The run.
      rounds: The number of timed rounds of each program; the results are medians and ranges.
      log_line: Prints a line about progress.
    """
    run = with_placeholder_data(run)
    config, placement = run.config, run.placement
    batch = _make_random_batch(run)
    log_line("drawing the parameters")
    state = run.initial_state()
    device = placement.mesh.local_devices[0]
    rates = get_device_rates(device, config.model.dtype)
    results: dict[str, Any] = {}
    # Training comes last: it donates the state.
    for name, step, arguments in (
        ("inference", run.predict_step, (state.variables, batch.image)),
        ("training", run.train_step, (state, batch)),
    ):
        log_line(f"compiling {name}")
        began = time.perf_counter()
        program = step.lower(*arguments).compile()
        compile_seconds = time.perf_counter() - began
        log_line(f"timing {name}")
        times: list[float] = []
        for _ in range(1 + rounds):
            began = time.perf_counter()
            outputs = jax.block_until_ready(program(*arguments))
            times.append(time.perf_counter() - began)
            if name == "training":
                arguments = (outputs[0], batch)
        costs = _compute_costs(run, rates, train=name == "training")
        results[name] = _summarize_times(
            times[1:], compile_seconds, program, costs, rates, config.batch_size
        )
    return {
        "model": config.model.name,
        "dtype": config.model.dtype,
        "batch_size": config.batch_size,
        "image_size": config.data.image_size,
        "examples_per_group": config.norm.examples_per_group or config.batch_size,
        "rewrites": list(run.network.rewrites),
        "devices": placement.devices,
        "device_kind": device.device_kind,
        "rounds": rounds,
        "rates": rates._asdict(),
        **results,
    }


def _make_random_batch(run: Run) -> Batch:
    size, pixels, placement = run.config.batch_size, run.config.data.image_size, run.placement
    random = np.random.default_rng(0)
    rows = len(placement.local_rows(size))
    local = Batch(
        random.integers(0, 256, (rows, pixels, pixels, 3), np.uint8),
        random.integers(0, len(run.class_names), rows, np.int32),
        np.ones(rows, np.float32),
        np.arange(rows, dtype=np.int64),
    )
    return placement.make_global_batch(local, size)


def _compute_costs(run: Run, rates: DeviceRates, *, train: bool) -> list[LayerCost]:
    """Returns the costs of the layers for the images of one device."""
    return list(
        compute_layer_costs(
            run.measurement,
            images=run.config.batch_size // run.placement.devices,
            itemsize=jnp.dtype(run.config.model.dtype).itemsize,
            train=train,
            rates=rates,
        )
    )


def _summarize_times(
    times: list[float],
    compile_seconds: float,
    program: jax.stages.Compiled,
    costs: list[LayerCost],
    rates: DeviceRates,
    batch_size: int,
) -> dict[str, Any]:
    """Returns the speed of a program, its ratio to the peak rates, and the costs of layers."""
    seconds, roofline_seconds = median(times), sum(cost.seconds for cost in costs)
    summary = summarize_program(program)
    return {
        "images_per_second": batch_size / seconds,
        "spread": [batch_size / max(times), batch_size / min(times)],
        "model_flops_utilization": sum(cost.flops for cost in costs) / seconds / rates.flops,
        "of_roofline": roofline_seconds / seconds,
        "compile_seconds": compile_seconds,
        "memory_bytes": summary["memory_bytes"],
        "program_flops": summary["flops_per_chip"],
        "program_bytes": summary["bytes_per_chip"],
        "layers": [cost._asdict() | {"share": cost.seconds / roofline_seconds} for cost in costs],
    }
