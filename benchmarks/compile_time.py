"""How long a training step takes to compile, with equal rows in a loop and without: `python benchmarks/compile_time.py [--for cpu v5e]`.

The step of `step.py`: on a CPU for 8 images in float32; for a TPU (needs libtpu, and no TPU) for 64 in bfloat16, at level O1;
each program in a process of its own, without a cache, in rounds turn about. With the loop, the step has variables that are stacked, as runs
hold them (`nn.repeated.pack`). Ratios are the loop's seconds over the other's: of compiling, and with tracing and lowering. What was
measured for other targets before stays in the results.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}

import jax
import jax.numpy as jnp

from benchmarks.machine import RESULTS, publish
from benchmarks.step import OPTIMIZER, step_of
from inception_jax.nn.create import create
from inception_jax.nn.repeated import pack
from inception_jax.plan.chips import Topology
from inception_jax.plan.compiled import room
from inception_jax.spec.rewrite import LOOP, best

NAME = "compile_time"
PROGRAMS = ("row by row", "in a loop")


def compiled(model: str, program: str, target: str, level: str) -> dict[str, float]:
    """Seconds, and what the program holds and moves."""
    on_cpu = target == "cpu"
    if not on_cpu:
        jax.config.update("jax_optimization_level", level)
    rewrites = best(create(model).architecture, "cpu" if on_cpu else "tpu")
    network = create(
        model, rewrites=(*rewrites, LOOP) if program == "in a loop" else rewrites, dtype=jnp.float32 if on_cpu else jnp.bfloat16
    )
    size, images, place = network.architecture.input_size, 8 if on_cpu else 64, None
    shape = (images, size, size, network.architecture.channels)
    variables = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape[1:]), network.dtype))
    variables = jax.eval_shape(lambda tree: pack(tree, network.repeats), variables)
    inputs = (
        variables["params"], variables["batch_stats"], jax.eval_shape(OPTIMIZER.init, variables["params"]),
        jax.ShapeDtypeStruct(shape, network.dtype), jax.ShapeDtypeStruct((images,), jnp.int32),
    )  # fmt: skip
    if not on_cpu:
        place = room(Topology(target, (1, 1))).replicated
        inputs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), inputs)
    began = time.perf_counter()
    lowered = jax.jit(step_of(network), donate_argnums=(0, 1, 2)).lower(*inputs)
    traced = time.perf_counter()
    found = lowered.compile()
    done = time.perf_counter()
    memory = found.memory_analysis()
    return {
        "trace_seconds": round(traced - began, 2),
        "compile_seconds": round(done - traced, 2),
        "temporaries": memory.temp_size_in_bytes,
        "program_bytes": memory.generated_code_size_in_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="inception_resnet_v2")
    parser.add_argument("--for", nargs="+", dest="targets", default=["cpu", "v5e"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--level", default="O1")
    parser.add_argument("--one", nargs=2, metavar=("PROGRAM", "TARGET"), help="prints one program's figures; used by itself")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(compiled(options.model, *options.one, options.level)))
        return
    kept = RESULTS / f"{NAME}.json"
    figures: dict[str, Any] = json.loads(kept.read_text())["loop_over_row_by_row"] if kept.exists() else {}
    for target in options.targets:
        rounds = []
        for _ in range(options.rounds):
            found = {}
            for program in PROGRAMS:
                line = [sys.executable, __file__, "--model", options.model, "--level", options.level, "--one", program, target]
                done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
                found[program] = json.loads(done.stdout.splitlines()[-1])
            rounds.append(found)
            print(f"{target}: {found}", file=sys.stderr, flush=True)
        figures[target] = {
            "model": options.model,
            "level": options.level if target != "cpu" else None,
            "rounds": rounds,
            "compiling": spread(rounds, "compile_seconds"),
            "all": spread(rounds, "trace_seconds", "compile_seconds"),
        }
        publish(NAME, {"loop_over_row_by_row": figures}, ["libtpu"] if find_spec("libtpu") else [])


def spread(rounds: list[dict[str, dict[str, float]]], *parts: str) -> dict[str, float]:
    """Of the loop's seconds over the other's."""
    row_by_row, loop = ([sum(found[program][part] for part in parts) for found in rounds] for program in PROGRAMS)
    ratios = [one / other for one, other in zip(loop, row_by_row, strict=True)]
    return {"median": round(statistics.median(ratios), 3), "least": round(min(ratios), 3), "most": round(max(ratios), 3)}


if __name__ == "__main__":
    main()
