"""How far rewritten networks are from what their tables say, in float32.

    python benchmarks/rewrites.py [--models NAME ...]

With all rules at once that win on some platform: each block that they change, alone (one row of a
table; with the row below where a pool goes from there into it), and each network of the registry
that they change, at two sizes. Each variable is drawn at random, every third gamma negative.
Compared are the outputs in inference and in training, the statistics, and the gradient of a random
sum of the outputs by all parameters and by what is given, relative to the largest value of each
array. Of networks, rows that repeat are there once, and those of the same rows are seen once. What
was computed before stays in the results.

A gradient jumps where a unit is at its kink: where what it is given is 0 to within rounding, as of
a million values some are, one order of additions lets the slope through and the other does not.
Where a block's gradients are apart, they are compared in float64 at the same place, where rounding
is a billion times less, and in float32 at another.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import make_parser, read_results, write_results
from benchmarks.random_variables import apart, some_gammas_negative, variables
from benchmarks.small_networks import each_row_once
from inception_jax.models import REGISTRY, get_architecture
from inception_jax.nn.network import Network
from inception_jax.spec.measure import measure, min_image_size
from inception_jax.spec.rewrite import BEST_REWRITES, is_applicable, rewrite, select_rewrites
from inception_jax.spec.vocabulary import Architecture, Conv, Steps, flatten

QUICK = {"xla_backend_optimization_level": 0}
IMAGES = 4
DRAWS = 3
"""Largest number of draws of images for a block."""
BLOCK_SIZES = (15, 22)
LARGER = (54, 81)
"""Pixels above the smallest image size, with sixteen values or more in every norm."""
BARS = {
    "blocks": {"inference": 1e-5, "training": 1e-5, "statistics": 1e-5, "gradient": 1e-5},
    "networks": {"inference": 2e-5, "training": 1e-4},
}


def winning(table: Architecture) -> tuple[str, ...]:
    """Returns the rewrites that win on some platform."""
    return tuple(
        dict.fromkeys(
            rule for platform in BEST_REWRITES for rule in select_rewrites(table, platform)
        )
    )


def networks() -> dict[str, Architecture]:
    """Yields the first network of each set of rows to which a rule applies."""
    first: dict[Any, str] = {}
    for name in REGISTRY:
        table = get_architecture(name)
        least = min_image_size(table) or table.input_size
        counts = {measure(table, image_size=least + more).parameters for more in LARGER}
        if winning(table) and len(counts) == 1:  # else its classifier reads a grid of one size
            first.setdefault((frozenset(steps for _, steps in table.layers), table.unit), name)
    return {name: each_row_once(get_architecture(name)) for name in first.values()}


def blocks() -> dict[str, Architecture]:
    """Yields each row that a rule changes, as a network of its own."""
    found: dict[Any, tuple[str, Architecture]] = {}
    for name, table in networks().items():
        after, places = dict(rewrite(table, winning(table)).layers), measure(table).end_points
        channels = table.channels
        for row, below in zip(table.layers, (*table.layers[1:], None), strict=True):
            if after[row[0]] != row[1]:
                *_, last = flatten(row[1])
                rows: tuple[tuple[str, Steps], ...] = (row,)
                if (
                    below is not None and isinstance(last, Conv) and not after[below[0]]
                ):  # the pool below, which is all of that row
                    rows = (row, below)
                alone = replace(table, layers=rows, aux=(), channels=channels)
                found.setdefault(
                    (*(steps for _, steps in rows), table.unit, channels),
                    (f"{name}, {row[0]}", alone),
                )
            channels = places[row[0]].shape[-1]
    return dict(found.values())


def results(network: Network, tree: Any, images: jax.Array) -> dict[str, Any]:
    def total(params, images):
        outputs, updated = network.apply(
            {**tree, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        weights = jax.random.normal(jax.random.key(2), outputs.logits.shape, jnp.float32)
        return (outputs.logits * weights).sum(), (outputs.logits, updated)

    gradient, (logits, statistics) = jax.jit(
        jax.grad(total, (0, 1), has_aux=True), compiler_options=QUICK
    )(tree.get("params", {}), images)
    inference = jax.jit(network.apply, compiler_options=QUICK)(tree, images).logits
    return {
        "inference": inference,
        "training": logits,
        "statistics": statistics,
        "gradient": gradient,
    }


def differences(
    network: Network, rules: tuple[str, ...], tree: Any, images: jax.Array
) -> dict[str, float]:
    plain, rewritten = (
        results(one, tree, images) for one in (network, network.clone(rewrites=rules))
    )
    return {what: apart(rewritten[what], plain[what]) for what in plain}


def compared(
    table: Architecture, sizes: Sequence[int], bars: dict[str, float]
) -> list[dict[str, Any]]:
    network, rules = (
        Network(table),
        tuple(rule for rule in winning(table) if is_applicable(table, rule)),
    )
    found: list[dict[str, Any]] = []
    tree = some_gammas_negative(variables(network, image_size=sizes[0]))
    for size in sizes:
        one: dict[str, Any] = {"size": size, "rules": rules}
        for draw in range(1, DRAWS + 1):
            images = jax.random.normal(jax.random.key(draw), (IMAGES, size, size, table.channels))
            one |= differences(network, rules, tree, images)
            if one["gradient"] <= bars.get("gradient", np.inf):
                break
            with jax.enable_x64(True):
                wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (tree, images))
                again = differences(network.clone(dtype=jnp.float64), rules, *wide)
            one.setdefault("at_a_kink", []).append(
                {"in_float32": one["gradient"], "in_float64": again["gradient"]}
            )
        found.append(one)
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--models", nargs="+", default=[], help="networks, instead of all networks and blocks"
    )
    parser.add_argument(
        "--blocks",
        nargs="+",
        default=[],
        help='blocks, instead of all networks and blocks: "googlenet, Mixed_3b"',
    )
    options = parser.parse_args()
    file, chosen = options.results / "rewrites.json", {*options.models, *options.blocks}
    tables = {"blocks": blocks(), "networks": networks()}
    if unknown := chosen - {name for each in tables.values() for name in each}:
        parser.error(f"no rewrite changes {'; '.join(sorted(unknown))}")
    figures: dict[str, Any] = {
        kind: read_results(file).get(kind, {}).get("each", {}) for kind in BARS
    }
    for kind, each in tables.items():
        for name, table in each.items():
            if chosen and name not in chosen:
                continue
            least = min_image_size(table) or table.input_size
            figures[kind][name] = compared(
                table,
                BLOCK_SIZES if kind == "blocks" else [least + more for more in LARGER],
                BARS[kind],
            )
            print(name, figures[kind][name], flush=True)
            write_results(
                file, {kind: judged(figures[kind], BARS[kind]) for kind in BARS if figures[kind]}
            )


def judged(figures: dict[str, Any], bars: dict[str, float]) -> dict[str, Any]:
    """Returns the largest errors with the bars."""
    every = [one for rows in figures.values() for one in rows]
    kinks = [kink for one in every for kink in one.get("at_a_kink", ())]
    worst = {
        what: max(one[what] for one in every)
        for what in ("inference", "training", "statistics", "gradient")
    }
    said = {
        "compared": len(every),
        "kinks": len(kinks),
        "of_those_in_float64": max((kink["in_float64"] for kink in kinks), default=0.0),
    }
    return {
        "bars": bars,
        "met": {what: worst[what] <= bars[what] for what in bars},
        "worst": worst,
        **said,
        "each": figures,
    }


if __name__ == "__main__":
    main()
