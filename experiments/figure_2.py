"""Figure 2 of "Batch Normalization" (arXiv:1502.03167), on the digits.

    python experiments/figure_2.py [FOLDER] [--distorted]

The paper's five networks by the paper's five recipes, as they stand in `configs/`, scaled to a
small set. The network is the small BN-Inception, with the paper's response normalisation and
dropout where the recipe has them; the data are the digits that ship with the package, as they are,
or with `--distorted` under the distortion of the digits' own recipe: the same for all networks,
since the paper's seventh change is less photometric distortion, of which these have none. The rate
of the baseline is the best of a grid, every other rate is to it what it is in the paper (1, 5 and
30 times); rates decay four times as often as in the recipes; running statistics keep 0.9 of
themselves in a step. A sixth network, Inception with sigmoids and without batch normalisation, is
the one of which the paper says that it never left chance.

"Best" is the highest mean of five evaluations, two of them in an epoch. The baseline runs until 20
epochs have passed without a new one (in chunks of 10 epochs), and the threshold is that best less
one standard error of 450 images; steps are counted to the first evaluation whose mean with the four
before reaches the threshold. The others run 30 epochs (`--epochs`), so their maximum is over fewer
evaluations. Five seeds; every run keeps its workdir in FOLDER (runs/figure_2), and a second start
of the same line goes on where the first was ended.

The distorted digits are asked one question, which the plain ones left open: how much earlier BN-x5
is as good as the baseline ever is.

Writes `experiments/results/figure_2.json` and `docs/figure_2.png`, or `figure_2_distorted.*`.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import EXPERIMENTS, make_parser, picture_folder, publish
from inception_jax.config import ConfigError, Experiment, Norm
from inception_jax.models import register
from inception_jax.models.bn_inception import small_32px
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.recipes import load_recipe
from inception_jax.report import figures
from inception_jax.report.comparison import (
    SMOOTHING_WINDOW,
    Curve,
    compare_curves,
    format_comparison,
    make_curve,
)
from inception_jax.report.published import read_published
from inception_jax.spec.vocabulary import Activation, Architecture, LocalResponse

RATES = (0.005, 0.01, 0.02, 0.04)
SIZE = 24
"""Pixels; its modules then work on grids of 6, 3 and 2."""
BATCH_NORMALISED, PLAIN = ("bn_baseline", "bn_x5", "bn_x30", "bn_x5_sigmoid"), "inception_sigmoid"


def table(name: str, norm: bool = True, activation: Activation = "relu") -> Architecture:
    """Returns the small BN-Inception with the paper's variations: LRN in the stem, 40 % dropout."""
    table = small_32px()
    layers = tuple(
        (place, (words, LocalResponse()) if place == "Conv2d_2c_3x3" else words)
        for place, words in table.layers
    )
    unit = replace(table.unit, norm=norm, bias=not norm, activation=activation)
    return replace(table, name=name, layers=layers, unit=unit, dropout_rate=0.4, aux=())


def networks() -> None:
    register("inception_small", paper=partial(table, "inception_small", norm=False))
    register(
        "inception_sigmoid_small",
        paper=partial(table, "inception_sigmoid_small", norm=False, activation="sigmoid"),
    )
    register("bn_baseline_small", paper=partial(table, "bn_baseline_small"))
    register(
        "bn_x5_sigmoid_small", paper=partial(table, "bn_x5_sigmoid_small", activation="sigmoid")
    )


def experiment(name: str, rate: float, seed: int, epochs: float, distorted: bool) -> Experiment:
    """Returns the paper's recipe `name`, scaled to the digits; `rate` is the baseline's."""
    paper, digits = (
        load_recipe("inception" if name == PLAIN else name).config,
        load_recipe("digits").config.data,
    )
    if not distorted:
        digits = replace(digits, margin=0, translate=0, scale=0, rotate=0, shear=0)
    small = SIZE / digits.image_size
    return replace(
        paper,
        model=replace(paper.model, name=f"{name if name == PLAIN else paper.model.name}_small"),
        norm=Norm(examples_per_group=32, decay=0.9),
        data=replace(
            digits,
            image_size=SIZE,
            margin=round(small * digits.margin),
            translate=small * digits.translate,
            shuffle_block=paper.data.shuffle_block,
            threads=0,
        ),
        optimizer=replace(
            paper.optimizer, learning_rate=rate * paper.optimizer.learning_rate / 0.0015
        ),
        schedule=replace(paper.schedule, decay_epochs=paper.schedule.decay_epochs / 4),
        steps=None,
        epochs=epochs,
        seed=seed,
        evaluate_every_epochs=0.5,
        checkpoint_every_epochs=10,
        keep_checkpoints=1,
        log_every_steps=1000,
    )


def epochs_since_best(found: Curve) -> float:
    """Returns the number of epochs since the mean of five evaluations was highest."""
    means = found.smoothed_top1[min(SMOOTHING_WINDOW, len(found.smoothed_top1)) - 1 :]
    return (len(means) - 1 - int(means.argmax())) / 2


def scored(name: str, rate: float, seed: int, folder: Path) -> Curve:
    """Returns the scores of a run; a single 0 for one that diverged before its first evaluation."""
    workdir = folder / f"{name}_{rate}_{seed}"
    try:
        return make_curve(name, seed, read_metrics(workdir), workdir)
    except ConfigError:
        return Curve(name, seed, np.array([1.0]), np.array([0.0]), 0, np.array([np.nan]))


def trained(
    name: str, rate: float, seed: int, folder: Path, distorted: bool, epochs: float, patience: float
) -> None:
    """Trains one run of some epochs in its own workdir.

    The baseline runs until `patience` epochs bring none better.
    """
    from etils import epath

    from inception_jax.checkpointing.workdir import claim_workdir, resolve_for_resume
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.trainer.divergence import DivergedError
    from inception_jax.trainer.loop import find_completed_step, fit

    workdir = epath.Path(folder.absolute() / f"{name}_{rate}_{seed}")
    while not (workdir / "diverged.txt").exists():
        config = resolve_for_resume(workdir, experiment(name, rate, seed, epochs, distorted))
        claim_workdir(workdir, config)
        run = Run(config, all_devices_placement())
        try:
            if find_completed_step(run, workdir) is None:
                fit(run, workdir)
        except DivergedError as error:
            (workdir / "diverged.txt").write_text(f"{error}\n")
            return
        if (
            name != "inception"
            or epochs_since_best(make_curve(name, seed, read_metrics(workdir))) >= patience
        ):
            return
        epochs += 10


def begin(free: "multiprocessing.Queue[int]") -> None:
    """Pins a worker process to a core.

    Note: Two runs on one core each make 1.7 times the steps that they make on two cores one after
    the other.
    """
    os.sched_setaffinity(0, {free.get()})
    networks()


def many(jobs: list[tuple[str, float, int]], train: Callable[..., None]) -> None:
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    free = context.Queue()
    for core in cores:
        free.put(core)
    with ProcessPoolExecutor(len(cores), context, begin, (free,)) as pool:
        for job, done in [(job, pool.submit(train, *job)) for job in jobs]:
            done.result()
            print("done:", *job, flush=True)


def main() -> None:
    parser = make_parser(__doc__, EXPERIMENTS)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/figure_2"))
    parser.add_argument(
        "--distorted",
        action="store_true",
        help="the harder set: digits that are moved, turned and stretched",
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=RATES, help="of the baseline's grid"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=float, default=30, help="of each run, and at least of the baseline's"
    )
    parser.add_argument(
        "--patience", type=float, default=20, help="epochs of the baseline after its last best"
    )
    options = parser.parse_args()
    folder, rates, seeds = options.folder, options.rates, range(options.seeds)
    name, others = (
        ("figure_2_distorted", ("bn_x5",))
        if options.distorted
        else ("figure_2", (*BATCH_NORMALISED, PLAIN))
    )
    train = partial(
        trained,
        folder=folder,
        distorted=options.distorted,
        epochs=options.epochs,
        patience=options.patience,
    )
    many([("inception", rate, 0) for rate in rates], train)
    grid = {rate: scored("inception", rate, 0, folder) for rate in rates}
    best = max(rates, key=lambda rate: grid[rate].best)
    print(f"the baseline is best at {best}", flush=True)
    jobs = [("inception", best, seed) for seed in seeds[1:]] + [
        (network, best, seed) for seed in seeds for network in others
    ]
    many(jobs, train)
    found = [
        scored(network, best, seed, folder) for network in ("inception", *others) for seed in seeds
    ]
    known = {row["key"]: row for row in read_published()}
    print(format_comparison(found, known))
    verdict = {one.name: one for one in compare_curves(found)}
    publish(
        options.results / f"{name}.json",
        {
            "batch": 32,
            "held_out": found[0].held_out,
            "baseline_grid": {
                str(rate): {"best_mean_of_five": round(one.best, 4), "steps": int(one.steps[-1])}
                for rate, one in grid.items()
            },
            "baseline_rate": best,
            "networks": {
                network: {
                    "steps_to_baselines_best": [
                        int(steps) if steps < float("inf") else None for steps in one.steps
                    ],
                    "times_fewer": [round(ratio, 2) for ratio in one.speed_up],
                    "best_mean_of_five": [round(value, 4) for value in one.best],
                    "maximum": [round(value, 4) for value in one.maximum],
                }
                for network, one in verdict.items()
            },
        },
    )
    figures.draw_comparison(found, picture_folder(options.results) / f"{name}.png")


if __name__ == "__main__":
    main()
