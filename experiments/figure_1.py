"""Figure 1 of "Batch Normalization" (arXiv:1502.03167), on the digits.

    python experiments/figure_1.py [--steps 20000] [--seeds 3]

Three layers of 100 sigmoids and a softmax, with and without batch normalisation of the hidden
layers, under plain SGD on mini-batches of 60; the held-out accuracy under population statistics,
and the {15, 50, 85}th percentiles of what enters the sigmoids of three units of the last hidden
layer, under the statistics of a fixed batch, as the paper has it.

The images are the digits that ship with the package, enlarged to 28x28 and binarised at half, for
20,000 steps, 890 epochs (the paper: MNIST, 50,000 steps, 50 epochs). The paper gives neither the
learning rate nor the deviation of the initial weights: the whole grid of both is run, the same for
both networks, and all of it is shown.

Writes `results/figure_1.json` and `docs/figure_1.png`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import EXPERIMENTS, make_parser, picture_folder, publish
from inception_jax.data.batches import Batch
from inception_jax.data.decode import decode, resize
from inception_jax.data.order import make_shuffled_order
from inception_jax.data.registry import open_source
from inception_jax.evaluation.population import (
    average_moments,
    collecting_stats,
    compute_batch_moments,
)
from inception_jax.models import get_architecture
from inception_jax.nn.network import Network
from inception_jax.spec.vocabulary import Init

BATCH, EVERY, EARLY = 60, 250, 1250
RATES, DEVIATIONS = (0.05, 0.1), (0.1, 0.5)
UNITS, PERCENTILES = (0, 1, 2), (15, 50, 85)
NETWORKS = {"mnist": "without", "mnist_bn": "with"}
SHOWN = (0.1, 0.1)  # rate, deviation


def digits(split: str) -> tuple[jax.Array, jax.Array]:
    """Images [N, 28, 28, 1] of -1 and 1, and labels [N]."""
    source = open_source("digits", split)
    images = np.empty((len(source), 28, 28, 3), np.uint8)
    for i in range(len(source)):
        resize(decode(source[i].image), images[i], "bilinear")
    labels = np.array([source[i].label for i in range(len(source))])
    return jnp.asarray(np.where(images[..., :1] > 127, 1.0, -1.0), jnp.float32), jnp.asarray(labels)


def trained(
    name: str, rate: float, deviation: float, seed: int, steps: int, train: Any, test: Any
) -> dict[str, np.ndarray]:
    """Returns steps, accuracy, and percentiles [evaluations, units, 3] of one run."""
    table = get_architecture(name)
    network = Network(
        replace(table, unit=replace(table.unit, init=Init("normal", deviation))), num_classes=10
    )
    images, labels = train
    order = jnp.asarray(
        make_shuffled_order(len(labels), seed)(np.arange(steps * BATCH)).reshape(-1, EVERY, BATCH)
    )
    variables = network.init(jax.random.key(seed), images[:2])

    def step(variables: Any, rows: jax.Array) -> tuple[Any, None]:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            outputs, updated = network.apply(
                {**variables, "params": params}, images[rows], train=True, mutable=["batch_stats"]
            )
            picked = jnp.take_along_axis(
                jax.nn.log_softmax(outputs.logits), labels[rows][:, None], 1
            )
            return -picked.mean(), updated

        gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
        return {
            **updated,
            "params": jax.tree.map(lambda p, g: p - rate * g, variables["params"], gradient),
        }, None

    many = jax.jit(lambda variables, rows: jax.lax.scan(step, variables, rows)[0])
    look = jax.jit(
        partial(
            compute_batch_moments,
            network=collecting_stats(network, "population"),
            prepare=lambda batch, keys: (batch.image, batch.label),
        )
    )

    @jax.jit
    def entering(variables: Any) -> jax.Array:
        outputs, _ = network.apply(
            variables, images[:600], train=True, mutable=["batch_stats"], end_points=("Hidden_3",)
        )
        above = jnp.clip(outputs.end_points["Hidden_3"][:, UNITS], 1e-7, 1 - 1e-7)
        return jnp.percentile(jnp.log(above / (1 - above)), jnp.array(PERCENTILES), axis=0).T

    @jax.jit
    def right(variables: Any) -> jax.Array:
        outputs: Any = network.apply(variables, test[0])
        return (outputs.logits.argmax(-1) == test[1]).mean()

    accuracy, percentiles = [], []
    for rows in order:
        variables = many(variables, rows)
        scored = variables
        if variables.get("batch_stats"):
            seen = (
                look(variables, Batch(images[r], labels[r], None, None), None) for r in rows[:20]
            )
            scored = {**variables, "batch_stats": average_moments(seen, "population")}
        accuracy.append(float(right(scored)))
        percentiles.append(np.asarray(entering(variables)))
    return {"accuracy": np.array(accuracy), "percentiles": np.array(percentiles)}


def draw(found: dict[str, dict[str, np.ndarray]], seeds: Sequence[int], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = (
        np.arange(1, 1 + len(found[f"mnist {SHOWN[0]} {SHOWN[1]} 0"]["accuracy"])) * EVERY / 1000
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    colours = {"mnist": "#8da0b3", "mnist_bn": "#c0392b"}
    for name, label in NETWORKS.items():
        scores = np.array(
            [found[f"{name} {SHOWN[0]} {SHOWN[1]} {seed}"]["accuracy"] for seed in seeds]
        )
        axes[0].plot(steps, 100 * scores.mean(0), color=colours[name], label=f"{label} BN")
        axes[0].fill_between(
            steps, 100 * scores.min(0), 100 * scores.max(0), color=colours[name], alpha=0.25, lw=0
        )
    axes[0].set(
        xlabel="thousand steps",
        ylabel="held-out accuracy (%)",
        ylim=(70, 100),
        title="(a) held-out digits",
    )
    axes[0].legend(frameon=False)
    for axis, (name, label), letter in zip(axes[1:], NETWORKS.items(), "bc", strict=True):
        paths = found[f"{name} {SHOWN[0]} {SHOWN[1]} 0"]["percentiles"]
        for unit, colour in zip(range(len(UNITS)), ("#c0392b", "#2c7fb8", "#5a5a5a"), strict=True):
            axis.plot(steps, paths[:, unit, 1], color=colour, lw=1.4)
            axis.fill_between(
                steps, paths[:, unit, 0], paths[:, unit, 2], color=colour, alpha=0.15, lw=0
            )
        axis.set(
            xlabel="thousand steps",
            ylabel="input of the sigmoid",
            title=f"({letter}) {label} BN: 15, 50 and 85 %",
        )
    low = min(axis.get_ylim()[0] for axis in axes[1:])
    high = max(axis.get_ylim()[1] for axis in axes[1:])
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if axis is not axes[0]:
            axis.set_ylim(low, high)
    figure.savefig(file, dpi=110)


def summary(found: dict[str, dict[str, np.ndarray]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    for rate in RATES:
        for deviation in DEVIATIONS:
            row: dict[str, Any] = {"learning_rate": rate, "initial_deviation": deviation}
            for name, label in NETWORKS.items():
                runs = [found[f"{name} {rate} {deviation} {seed}"] for seed in seeds]
                scores = np.array([run["accuracy"] for run in runs])
                medians = np.array([run["percentiles"][:, :, 1] for run in runs])
                row[f"{label}_bn"] = {
                    "accuracy_last": [round(float(value), 4) for value in scores[:, -1]],
                    "accuracy_best": [round(float(value), 4) for value in scores.max(1)],
                    "accuracy_after_1250_steps": [
                        round(float(value), 4) for value in scores[:, EARLY // EVERY - 1]
                    ],
                    "steps_to_0.9": [
                        int((np.argmax(run > 0.9) + 1) * EVERY) if (run > 0.9).any() else None
                        for run in scores
                    ],
                    "median_input_moves_by": round(
                        float((medians.max(1) - medians.min(1)).mean()), 3
                    ),
                }
            rows.append(row)
    return rows


def main() -> None:
    parser = make_parser(__doc__, EXPERIMENTS)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.steps < EARLY or options.steps % EVERY:
        parser.error(f"--steps {options.steps}: wanted is a multiple of {EVERY} from {EARLY}")
    train, test, seeds = digits("train"), digits("test"), range(options.seeds)
    found = {}
    for seed in seeds:
        for rate in RATES:
            for deviation in DEVIATIONS:
                for name in NETWORKS:
                    run = found[f"{name} {rate} {deviation} {seed}"] = trained(
                        name, rate, deviation, seed, options.steps, train, test
                    )
                    print(
                        f"{name} rate {rate} deviation {deviation} seed {seed}: "
                        f"{run['accuracy'][-1]:.4f}",
                        flush=True,
                    )
    figures = {
        "steps": options.steps,
        "batch": BATCH,
        "held_out": len(test[1]),
        "grid": summary(found, seeds),
    }
    publish(options.results / "figure_1.json", figures)
    draw(found, seeds, picture_folder(options.results) / "figure_1.png")


if __name__ == "__main__":
    main()
