"""Counts the bytes that a training step moves on a GPU, without one, by `plan.program`.

    python benchmarks/plan_gpu.py [--models NAME ...] [--images 64 256] [--chip h100]

Needs JAX's CUDA plugin and no GPU: `pip install -e '.[cuda]'`. Each program is compiled for one
GPU, in bfloat16: forward, backward, RMSProp with momentum; no auxiliary head, average, L2 or
preparation of the input. Beside ours the same network in plain Flax (`plain_flax.py`), which is
held to the same logits from the same variables first. Bytes are those of the operands and results
of all kernels; nothing was run. `--without` leaves out each of our rewrites, the layouts and the
compiler's options, one at a time; `--devices 8` compiles ours for as many GPUs, each with batch
statistics of its own, and gives the dtypes of their all-reduces. What was compiled before stays in
the results.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_gpu_autotune_level=0"}

import jax
import jax.numpy as jnp

from benchmarks.machine import exit_unavailable, make_parser, publish, read_results
from benchmarks.plain_flax import Plain, same_function
from benchmarks.step import OPTIMIZER, step_of
from inception_jax.distributed.mesh import COMPILER_OPTIONS
from inception_jax.nn.create import create
from inception_jax.plan.chips import parse_topology
from inception_jax.plan.collectives import parse_collectives, sum_traffic
from inception_jax.plan.compile_process import has_cuda_plugin
from inception_jax.plan.compiled_step import CUDA_PLUGINS, topology_placement
from inception_jax.plan.hlo import parse_program
from inception_jax.plan.program import count_program, list_violations
from inception_jax.spec.rewrite import select_rewrites

IMAGES = (64, 256)
MODELS = ("inception_v3", "bn_inception", "resnet50", "inception_v4", "inception_resnet_v2")
PLAIN, REWRITTEN, LAYOUTS, OPTIONS = "plain Flax", "rewritten", "kernel layouts", "no excess"
BARS = {
    ("inception_v3", 64): {"full_bytes": 0.70, "refined_bytes": 0.64, "kernels": 0.62},
    ("bn_inception", 64): {"full_bytes": 0.66, "refined_bytes": 0.57, "kernels": 0.62},
    ("resnet50", 64): {"full_bytes": 0.90, "refined_bytes": 0.90, "kernels": 0.72},
    ("inception_v3", 256): {"full_bytes": 0.68, "refined_bytes": 0.61, "kernels": 0.62},
}
"""(model, images) -> the largest ratio to plain Flax."""


def program(model: str, name: str, images: int, chip: str, devices: int) -> dict[str, Any]:
    """Returns the figures of a compiled step.

    Args:
      name: `PLAIN`, `REWRITTEN`, or `without ` and a rewrite, `LAYOUTS` or `OPTIONS`.
      images: The images of a device.
    """
    placement = topology_placement(parse_topology(f"{chip}:{devices}"))
    group = images if devices > 1 else 0
    network: Any = create(model, dtype=jnp.bfloat16, decay=0.9997, examples_per_group=group)
    table, left_out = network.architecture, name.removeprefix("without ")
    if name == PLAIN:
        network = Plain(table, network.num_classes, jnp.bfloat16)
    else:
        rewrites = [rule for rule in select_rewrites(table, "gpu") if rule != left_out]
        sharding = placement.batch_sharding if devices > 1 else None
        network = network.clone(rewrites=tuple(rewrites), batch_sharding=sharding)
    pixels = (table.input_size, table.input_size, table.channels)
    variables = jax.eval_shape(
        network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *pixels), jnp.bfloat16)
    )
    state = (
        variables["params"],
        variables.get("batch_stats", {}),
        jax.eval_shape(OPTIMIZER.init, variables["params"]),
    )
    formats = (
        jax.tree.map(lambda _: placement.replicated, state)
        if name == PLAIN or left_out == LAYOUTS
        else placement.state_format(state)
    )
    state = jax.tree.map(
        lambda leaf, form: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=form),
        state,
        formats,
    )
    batch = [
        jax.ShapeDtypeStruct((devices * images, *pixels), jnp.bfloat16),
        jax.ShapeDtypeStruct((devices * images,), jnp.int32),
    ]
    batch = [leaf.update(sharding=placement.batch_sharding) for leaf in batch]
    options = None if name == PLAIN or left_out == OPTIONS else COMPILER_OPTIONS["gpu"]
    step = jax.jit(
        step_of(network),
        donate_argnums=(0, 1, 2),
        out_shardings=(*formats, placement.replicated),
        compiler_options=options,
    )
    began = time.perf_counter()
    lowered = step.trace(*state, *batch).lower(lowering_platforms=("cuda",))
    found = lowered.compile()
    seconds = time.perf_counter() - began
    text, memory = found.as_text(), found.memory_analysis()
    assert text
    assert memory
    parsed = parse_program(text)
    violations = list_violations(parsed)
    reduced = sum_traffic(parse_collectives(text), "all-reduce")
    return {
        **count_program(parsed)._asdict(),
        "temporaries": memory.temp_size_in_bytes,
        "float32_convolutions": violations.float32_convolutions,
        "scatters": violations.scatters,
        **({"all_reduce_bytes_by_dtype": reduced.bytes_by_dtype} if devices > 1 else {}),
        "compile_seconds": round(seconds, 1),
    }


def compare(programs: dict[str, Any], bars: dict[str, float]) -> dict[str, Any]:
    """Returns the ratios of ours to plain Flax, and whether they meet the bars."""
    if not {PLAIN, REWRITTEN} <= programs.keys():
        return {}
    ours, plain = programs[REWRITTEN], programs[PLAIN]
    names = ("full_bytes", "refined_bytes", "kernels", "temporaries")
    ratios = {name: round(ours[name] / plain[name], 4) for name in names}
    met = {"bars": bars, "met": {name: ratios[name] <= bars[name] for name in bars}}
    return {"ratios": ratios, **(met if bars else {})}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", nargs="+", type=int, default=IMAGES, help="on each GPU")
    parser.add_argument("--chip", default="h100")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--without", action="store_true", help="also without each part of ours")
    parser.add_argument(
        "--one",
        nargs=2,
        metavar=("MODEL", "PROGRAM"),
        help="prints one program's figures; used by itself",
    )
    options = parser.parse_args()
    if not has_cuda_plugin():
        exit_unavailable("not installed: JAX's CUDA plugin, which compiles for GPUs")
    if options.one:
        (model, name), (images,) = options.one, options.images
        print(json.dumps(program(model, name, images, options.chip, options.devices)))
        return
    file = options.results / "plan_gpu.json"
    figures: dict[str, Any] = read_results(file).get("models", {})
    for model in options.models:
        entry = figures.setdefault(model, {})
        if "logits_apart" not in entry:
            entry["logits_apart"] = same_function(model)
        names = [PLAIN, REWRITTEN] if options.devices == 1 else [REWRITTEN]
        if options.without:
            parts = (*select_rewrites(create(model).architecture, "gpu"), LAYOUTS, OPTIONS)
            names += [f"without {part}" for part in parts]
        for images in options.images:
            where = f"{options.chip}:{options.devices}, {images} images"
            for name in names:
                # A process for each, so that none holds the memory of those before.
                line = [
                    sys.executable, __file__, "--images", str(images), "--chip", options.chip,
                    "--devices", str(options.devices), "--one", model, name,
                ]  # fmt: skip
                done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                programs = entry.setdefault(where, {"programs": {}})["programs"]
                programs[name] = found
                bars = BARS.get((model, images), {}) if options.chip == "h100" else {}
                entry[where] |= compare(programs, bars)
                full, refined = found["full_bytes"] / 1e9, found["refined_bytes"] / 1e9
                print(
                    f"{model}, {where}, {name}: {full:.2f} GB, {refined:.2f} GB refined, "
                    f"{found['kernels']:,} kernels",
                    file=sys.stderr,
                )
            publish(file, {"dtype": "bfloat16", "models": figures}, CUDA_PLUGINS)


if __name__ == "__main__":
    main()
