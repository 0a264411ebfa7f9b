"""Figure 2 of "Batch Normalization" (arXiv:1502.03167), on the digits: `python benchmarks/figure_2.py [FOLDER]`.

The paper's five networks by the paper's five recipes, as they stand in `configs/`, with three changes. The network is the small
BN-Inception; the data are the digits that ship with the package, under the distortion of the digits' recipe (half of it where the
paper distorts less); and the scales that hang on both: the rate of the baseline is the best of a grid of four, each other rate is to
it what it is in the paper (1, 5 and 30 times), and rates decay four times as often as in the recipes. A sixth network, Inception with
sigmoids and without batch normalisation, is the one of which the paper says that it never left chance.

"Best" is the maximum of a running mean of five evaluations, two in an epoch. The baseline runs until 20 epochs have passed without
a new one, and the threshold is that best less one standard error of 450 images; steps are counted to the first evaluation whose
running mean reaches the threshold. Five seeds; every run keeps its workdir in FOLDER (runs/figure_2), and a second start of the same
line goes on where the first was ended.

Writes `results/figure_2.json` and `docs/figure_2.png`.
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from machine import publish

from inception_jax.config import Experiment, Norm
from inception_jax.logbook import read_metrics
from inception_jax.models import register
from inception_jax.models.bn_inception import small
from inception_jax.recipes import recipe
from inception_jax.report import figures
from inception_jax.report.comparison import Curve, curve, printed, verdicts
from inception_jax.report.published import published
from inception_jax.spec.vocabulary import Activation, Architecture, LocalResponse

RATES, SEEDS = (0.0025, 0.005, 0.01, 0.02), range(5)
PATIENCE, OTHERS, AT_LEAST = 20, 30, 40
"""Epochs: of the baseline after its last best, of each other run, and of the baseline at least."""
SIZE = 24
"""Pixels; its modules then work on grids of 6, 3 and 2."""
BATCH_NORMALISED, PLAIN = ("bn_baseline", "bn_x5", "bn_x30", "bn_x5_sigmoid"), "inception_sigmoid"


def table(name: str, norm: bool = True, activation: Activation = "relu") -> Architecture:
    """The small BN-Inception as the paper's five networks differ: response normalisation in the stem, and 40 % dropout."""
    table = small()
    layers = tuple((place, (words, LocalResponse()) if place == "Conv2d_2c_3x3" else words) for place, words in table.layers)
    unit = replace(table.unit, norm=norm, bias=not norm, activation=activation)
    return replace(table, name=name, layers=layers, unit=unit, dropout_rate=0.4, aux=())


def networks() -> None:
    register("inception_small", paper=partial(table, "inception_small", norm=False))
    register("inception_sigmoid_small", paper=partial(table, "inception_sigmoid_small", norm=False, activation="sigmoid"))
    register("bn_baseline_small", paper=partial(table, "bn_baseline_small"))
    register("bn_x5_sigmoid_small", paper=partial(table, "bn_x5_sigmoid_small", activation="sigmoid"))


def experiment(name: str, rate: float, seed: int, epochs: float) -> Experiment:
    """The paper's recipe `name`, scaled to the digits; `rate` is the baseline's."""
    paper, digits = recipe("inception" if name == PLAIN else name).config, recipe("digits").config.data
    milder = 0.5 if paper.data.colour == "slim_fast" else 1.0
    distortion = {field: milder * getattr(digits, field) for field in ("stretch", "turn", "slant")}
    return replace(
        paper,
        model=replace(paper.model, name=f"{name if name == PLAIN else paper.model.name}_small"),
        norm=Norm(examples_per_group=32, decay=0.9),
        data=replace(
            digits, image_size=SIZE, margin=SIZE // 8, shift=milder * SIZE / digits.image_size * digits.shift, **distortion,
            shuffle_block=paper.data.shuffle_block, threads=0,
        ),
        optimizer=replace(paper.optimizer, learning_rate=rate * paper.optimizer.learning_rate / 0.0015),
        schedule=replace(paper.schedule, decay_epochs=paper.schedule.decay_epochs / 4),
        steps=None, epochs=epochs, seed=seed, evaluate_every_epochs=0.5, checkpoint_every_epochs=10, keep_checkpoints=1,
        log_every_steps=1000,
    )  # fmt: skip


def epochs_since_best(found: Curve) -> float:
    """How many epochs ago the running mean was at its highest, where the last evaluation is now."""
    return (len(found.top1) - 1 - int(found.smooth.argmax())) / 2


def trained(name: str, rate: float, seed: int, folder: Path) -> None:
    """One run, as long as its rule says, in a workdir of its own."""
    from etils import epath

    from inception_jax.experiment import Run
    from inception_jax.loop import DivergedError, finished, fit
    from inception_jax.mesh import everything
    from inception_jax.workdir import claim

    workdir = epath.Path(folder.absolute() / f"{name}_{rate}_{seed}")
    epochs = AT_LEAST if name == "inception" else OTHERS
    while not (workdir / "diverged.txt").exists():
        config = experiment(name, rate, seed, epochs)
        claim(workdir, config)
        run = Run(config, everything())
        try:
            if finished(run, workdir) is None:
                fit(run, workdir)
        except DivergedError as error:
            (workdir / "diverged.txt").write_text(f"{error}\n")
            return
        if name != "inception" or epochs_since_best(curve(name, seed, read_metrics(workdir))) >= PATIENCE:
            return
        epochs += 10


def begin(free: "multiprocessing.Queue[int]") -> None:
    """A core for each process: two runs side by side on one core each make 1.7 times the steps that they make on two cores in turn."""
    os.sched_setaffinity(0, {free.get()})
    networks()


def many(jobs: list[tuple[str, float, int]], folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    free = context.Queue()
    for core in cores:
        free.put(core)
    with ProcessPoolExecutor(len(cores), context, begin, (free,)) as pool:
        for job, done in [(job, pool.submit(trained, *job, folder)) for job in jobs]:
            done.result()
            print("done:", *job, flush=True)


def main(folder: Path) -> None:
    many([("inception", rate, 0) for rate in RATES], folder)
    grid = {rate: curve("", 0, read_metrics(folder / f"inception_{rate}_0")) for rate in RATES}
    best = max(RATES, key=lambda rate: grid[rate].best)
    print(f"the baseline is best at {best}", flush=True)
    jobs = [("inception", best, seed) for seed in SEEDS[1:]] + [(name, best, seed) for seed in SEEDS for name in (*BATCH_NORMALISED, PLAIN)]
    many(jobs, folder)
    found = [
        curve(name, seed, read_metrics(folder / f"{name}_{best}_{seed}"))
        for name in ("inception", *BATCH_NORMALISED, PLAIN)
        for seed in SEEDS
    ]
    known = {row["key"]: row for row in published()}
    print(printed(found, known))
    figures.beside(found, Path(__file__).parent.parent / "docs" / "figure_2.png")
    verdict = {one.name: one for one in verdicts(found)}
    publish(
        "figure_2",
        {
            "batch": 32,
            "held_out": found[0].held_out,
            "baseline_grid": {
                str(rate): {"best_mean_of_five": round(one.best, 4), "steps": int(one.steps[-1])} for rate, one in grid.items()
            },
            "baseline_rate": best,
            "networks": {
                name: {
                    "steps_to_baselines_best": [int(steps) if steps < float("inf") else None for steps in one.steps],
                    "times_fewer": [round(ratio, 2) for ratio in one.ratio],
                    "best_mean_of_five": [round(value, 4) for value in one.best],
                    "maximum": [round(value, 4) for value in one.maximum],
                }
                for name, one in verdict.items()
            },
        },
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/figure_2"))
