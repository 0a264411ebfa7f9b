"""How far rewritten networks are from what their tables say, in float32: `python benchmarks/rewrites.py [--models NAME ...]`.

Each network of the registry with a rule that wins on some platform, at 27 and 54 pixels more than the smallest that it takes (where batch
norm is over four values), each variable drawn at random and every third gamma negative: logits in inference and in training, and the
gradient of their squares by all parameters, with all such rules at once. Relative to the largest value of an array. Rows that repeat are
there once, networks of the same rows are seen once. What was computed before stays in the results.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from benchmarks.machine import RESULTS, keep
from inception_jax.models import REGISTRY, architecture
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.spec.measure import smallest
from inception_jax.spec.rewrite import BEST, best
from tests.invented import apart, some_gammas_negative, variables
from tests.networks import each_row_once

NAME = "rewrites"
QUICK = {"xla_backend_optimization_level": 0}
IMAGES = 4
BARS = {"inference": 2e-5, "training": 1e-4}
"""Of logits."""


def distinct() -> list[str]:
    """The first network of each set of rows in which a rule holds."""
    first: dict[Any, str] = {}
    for name in REGISTRY:
        table = architecture(name)
        if any(best(table, platform) for platform in BEST):
            first.setdefault((frozenset(steps for _, steps in table.layers), table.unit), name)
    return list(first.values())


def results(network: Network, tree: Any, images: jax.Array) -> dict[str, Any]:
    def loss(params):
        outputs, updated = network.apply(
            {**tree, "params": params}, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        )
        return jnp.square(outputs.logits).mean(), (outputs.logits, updated)

    gradient, (logits, statistics) = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)(tree["params"])
    inference = jax.jit(network.apply, compiler_options=QUICK)(tree, images).logits
    return {"inference": inference, "training": logits, "statistics": statistics, "gradient": gradient}


def compared(name: str) -> list[dict[str, Any]]:
    network = create(name)
    network = network.clone(architecture=each_row_once(network.architecture))
    table = network.architecture
    rules = tuple(dict.fromkeys(rule for platform in BEST for rule in best(table, platform)))
    found: list[dict[str, Any]] = []
    least = smallest(table) or table.input_size
    tree = some_gammas_negative(variables(network, image_size=least))
    for size in (least + 27, least + 54):
        images = jax.random.normal(jax.random.key(1), (IMAGES, size, size, table.channels))
        plain, rewritten = (results(one, tree, images) for one in (network, network.clone(rewrites=rules)))
        found.append({"size": size, "rules": rules, **{what: apart(rewritten[what], plain[what]) for what in plain}})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=distinct())
    options = parser.parse_args()
    kept = RESULTS / f"{NAME}.json"
    figures: dict[str, Any] = json.loads(kept.read_text())["models"] if kept.exists() else {}
    for name in options.models:
        figures[name] = compared(name)
        print(name, figures[name], flush=True)
        worst = {
            what: max(one[what] for rows in figures.values() for one in rows)
            for what in ("inference", "training", "statistics", "gradient")
        }
        keep(NAME, {"bars": BARS, "met": {what: worst[what] <= BARS[what] for what in BARS}, "worst": worst, "models": figures})


if __name__ == "__main__":
    main()
