"""What a training step moves on a TPU, with and without rewrites.

    python benchmarks/plan_tpu.py [--models NAME ...] [--chips v5e v6e]

Needs libtpu and no TPU: `pip install -e '.[tpu]'`. Each program is compiled for one chip, at 64
images in bfloat16: forward, backward, RMSProp with momentum; no auxiliary head, average, L2 or
preparation of the input. Beside ours the same network in plain Flax (`plain_flax.py`), which is
held to the same logits from the same variables first; with `--recipes` the whole step of the recipe
of that name, if there is one. Bytes and memory are the compiler's; nothing was run. What was
compiled before stays in the results, so that one model can be done at a time.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}

import jax
import jax.numpy as jnp

from benchmarks.machine import exit_unavailable, make_parser, publish, read_results
from benchmarks.plain_flax import Plain, same_function
from benchmarks.step import OPTIMIZER, step_of
from inception_jax.experiment import Run
from inception_jax.nn.create import create
from inception_jax.plan.chips import Topology, compute_roofline
from inception_jax.plan.compiled_step import compile_train_step, topology_placement
from inception_jax.recipes import list_recipes, load_recipe
from inception_jax.spec.rewrite import RULES, is_applicable, select_rewrites

IMAGES = 64
MODELS = ("inception_v3", "inception_v4", "inception_resnet_v2", "bn_inception", "resnet50")
PLAIN, OWN, REWRITTEN, RECIPE = (
    "plain Flax",
    "as the table says",
    "rewritten",
    "the whole recipe's step",
)


def networks(model: str, every: bool) -> dict[str, tuple[str, ...]]:
    """What is compiled: without rewrites, by those that win on TPUs together, and if `every` with
    more and more of them and each of the others.
    """
    table = create(model).architecture
    winning = select_rewrites(table, "tpu")
    found = {OWN: (), REWRITTEN: winning}
    if every:
        found |= {" + ".join(winning[:i]): winning[:i] for i in range(1, len(winning))}
        found |= {
            f"and {rule}": (*winning, rule)
            for rule in RULES
            if rule not in winning and is_applicable(table, rule)
        }
    return found


def recipe_step(model: str, rewrites: tuple[str, ...], chip: str) -> dict[str, Any]:
    """The figures of the whole step of the model's recipe: its auxiliary head, average, L2,
    clipping and preparation of the input.
    """
    config, topology = load_recipe(model).config, Topology(chip, (1, 1))
    config = replace(
        config, batch_size=IMAGES, model=replace(config.model, dtype="bfloat16", rewrites=rewrites),
        norm=replace(config.norm, examples_per_group=IMAGES),
    )  # fmt: skip
    found = compile_train_step(Run(config, topology_placement(topology)), topology)
    return {
        "bytes": int(found["bytes_per_chip"]),
        "flops": int(found["flops_per_chip"]),
        "temporaries": found["memory"]["temporaries"],
        "compile_seconds": round(found["compile_seconds"], 1),
    }


def program(model: str, rewrites: tuple[str, ...] | None, chip: str) -> dict[str, Any]:
    """The figures of a compiled step; of plain Flax's where `rewrites` is None."""
    network: Any = create(model, dtype=jnp.bfloat16, decay=0.9997, rewrites=rewrites or ())
    size = network.architecture.input_size
    if rewrites is None:
        network = Plain(network.architecture, network.num_classes, jnp.bfloat16)
    variables = jax.eval_shape(
        network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.bfloat16)
    )
    images, labels = (
        jax.ShapeDtypeStruct((IMAGES, size, size, 3), jnp.bfloat16),
        jax.ShapeDtypeStruct((IMAGES,), jnp.int32),
    )
    inputs = (
        variables["params"],
        variables["batch_stats"],
        jax.eval_shape(OPTIMIZER.init, variables["params"]),
        images,
        labels,
    )
    topology = Topology(chip, (1, 1))
    placement = topology_placement(topology)
    inputs = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement.replicated),
        inputs,
    )
    lowered = jax.jit(step_of(network), donate_argnums=(0, 1, 2)).lower(*inputs)
    began = time.perf_counter()
    found = lowered.compile()
    seconds = time.perf_counter() - began
    cost, memory = found.cost_analysis(), found.memory_analysis()
    assert cost
    assert memory
    least = compute_roofline(
        topology.chip, flops=cost["flops"], hbm_bytes=cost["bytes accessed"], ici_bytes=0
    )
    return {
        "bytes": int(cost["bytes accessed"]),
        "flops": int(cost["flops"]),
        "temporaries": memory.temp_size_in_bytes,
        "roofline_seconds": round(max(least), 5),
        "bound": least.bound,
        "compile_seconds": round(seconds, 1),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--chips", nargs="+", default=["v5e"])
    parser.add_argument("--level", default="O1")
    parser.add_argument(
        "--every",
        action="store_true",
        help="also the rules one after the other, and those that do not win",
    )
    parser.add_argument(
        "--recipes", action="store_true", help="also the whole step of the recipe of that name"
    )
    parser.add_argument(
        "--one",
        nargs=3,
        metavar=("MODEL", "PROGRAM", "CHIP"),
        help="prints one program's figures; used by itself",
    )
    options = parser.parse_args()
    if not find_spec("libtpu"):
        exit_unavailable("not installed: libtpu, which compiles for TPUs")
    jax.config.update("jax_optimization_level", options.level)
    if options.one:
        model, name, chip = options.one
        rules = networks(model, every=True)
        if name.startswith(RECIPE):
            print(json.dumps(recipe_step(model, rules[name.removeprefix(f"{RECIPE}, ")], chip)))
        else:
            print(json.dumps(program(model, None if name == PLAIN else rules[name], chip)))
        return
    file = options.results / "plan_tpu.json"
    figures: dict[str, Any] = read_results(file).get("models", {})
    for model in options.models:
        figures.setdefault(model, {})["logits_apart"] = same_function(model)
        for chip in options.chips:
            found = {}
            whole = [
                f"{RECIPE}, {name}"
                for name in (OWN, REWRITTEN)
                if options.recipes and model in list_recipes()
            ]
            for name in (PLAIN, *networks(model, options.every), *whole):
                # A process for each: a program that libtpu holds is not given back.
                line = [
                    sys.executable,
                    __file__,
                    "--level",
                    options.level,
                    "--one",
                    model,
                    name,
                    chip,
                ]
                done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
                found[name] = {"level": options.level, **json.loads(done.stdout.splitlines()[-1])}
                moved, held = found[name]["bytes"] / 1e9, found[name]["temporaries"] / 1e9
                print(f"{model}, {chip}, {name}: {moved:.2f} GB, {held:.2f} GB held", flush=True)
            found = figures[model].get(chip, {}).get("programs", {}) | found
            figures[model][chip] = {"programs": found, **less(found)}
            publish(file, {"images": IMAGES, "dtype": "bfloat16", "models": figures}, ["libtpu"])


def less(found: dict[str, Any]) -> dict[str, float]:
    """Of what the others move and hold, which part the rewritten program does not."""
    pairs = {
        "than_plain_flax": (REWRITTEN, PLAIN),
        "than_the_table": (REWRITTEN, OWN),
        "in_the_recipe": (f"{RECIPE}, {REWRITTEN}", f"{RECIPE}, {OWN}"),
    }
    return {
        f"fewer_{what}_{name}": round(1 - found[one][what] / found[other][what], 4)
        for what in ("bytes", "temporaries")
        for name, (one, other) in pairs.items()
        if other in found
    }


if __name__ == "__main__":
    main()
