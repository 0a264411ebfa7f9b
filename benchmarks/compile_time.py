"""How long a training step takes to compile, with equal rows in a loop and without: `python benchmarks/compile_time.py [--for cpu v5e]`.

And, as what no loop can do without, how long it takes with each row there once.

The step of `step.py`: on a CPU for 8 images in float32; for a TPU (needs libtpu, and no TPU) for 64 in bfloat16, at level O1;
each program in a process of its own, without a cache, in rounds turn about. With the loop, the step has variables that are stacked, as runs
hold them (`nn.repeated.pack`). Ratios are the loop's seconds over the other's: of compiling, of the processor's time in it, which other
work on the machine leaves alone, and with tracing and lowering. What was measured for other targets before stays in the results.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}

import jax
import jax.numpy as jnp
from machine import exit_unavailable, make_parser, publish, read_results
from step import OPTIMIZER, step_of

from inception_jax.nn.create import create
from inception_jax.nn.repeated import pack
from inception_jax.plan.chips import Topology
from inception_jax.plan.compiled import room
from inception_jax.spec.rewrite import LOOP, best
from tests.networks import each_row_once

ROW_BY_ROW, LOOPED, ONCE = PROGRAMS = ("row by row", "in a loop", "each row once")


def compiled(model: str, program: str, target: str, level: str) -> dict[str, float]:
    """Seconds, and what the program holds and moves."""
    on_cpu = target == "cpu"
    if not on_cpu:
        jax.config.update("jax_optimization_level", level)
    rewrites = best(create(model).architecture, "cpu" if on_cpu else "tpu")
    network = create(model, rewrites=(*rewrites, LOOP) if program == LOOPED else rewrites, dtype=jnp.float32 if on_cpu else jnp.bfloat16)
    if program == ONCE:
        network = network.clone(architecture=each_row_once(network.architecture))
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
    traced, busy = time.perf_counter(), time.process_time()
    found = lowered.compile()
    done, busy = time.perf_counter(), time.process_time() - busy
    memory = found.memory_analysis()
    assert memory
    return {
        "trace_seconds": round(traced - began, 2),
        "compile_seconds": round(done - traced, 2),
        "compile_processor_seconds": round(busy, 2),
        "temporaries": memory.temp_size_in_bytes,
        "program_bytes": memory.generated_code_size_in_bytes,
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="inception_resnet_v2")
    parser.add_argument("--for", nargs="+", dest="targets", default=["cpu", "v5e"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--level", default="O1")
    parser.add_argument("--one", nargs=2, metavar=("PROGRAM", "TARGET"), help="prints one program's figures; used by itself")
    options = parser.parse_args()
    if options.one:
        program, target = options.one
        print(json.dumps(compiled(options.model, program, target, options.level)))
        return
    if options.targets != ["cpu"] and not find_spec("libtpu"):
        exit_unavailable("not installed: libtpu, which compiles for TPUs; --for cpu does without")
    file = options.results / "compile_time.json"
    figures: dict[str, Any] = read_results(file).get("loop_over_row_by_row", {})
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
            "compiling_processor": spread(rounds, "compile_processor_seconds"),
            "all": spread(rounds, "trace_seconds", "compile_seconds"),
            "each_row_once": spread(rounds, "compile_processor_seconds", of=ONCE),
        }
        publish(file, {"loop_over_row_by_row": figures}, ["libtpu"])


def spread(rounds: list[dict[str, dict[str, float]]], *parts: str, of: str = LOOPED) -> dict[str, float]:
    """Of one program's seconds over those row by row."""
    ratios = [sum(found[of][part] for part in parts) / sum(found[ROW_BY_ROW][part] for part in parts) for found in rounds]
    return {"median": round(statistics.median(ratios), 3), "least": round(min(ratios), 3), "most": round(max(ratios), 3)}


if __name__ == "__main__":
    main()
