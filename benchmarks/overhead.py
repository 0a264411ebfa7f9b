"""Measures what checkpoints and logging cost a run.

    python benchmarks/overhead.py [--rounds 8] [--steps 50] [RECIPE]

RECIPE is the digits' where none is named; fields change it: `--batch-size 32`.

A checkpoint every 50 steps: stretches of 50 steps of `loop.training` that begin with a save, which
is written and sealed while the steps are made, in turn with stretches without.

The NaN guard: bytes and floating-point operations of the compiled step, by XLA's own account, with
the guard and with a step in which every number counts as finite, from which XLA takes it out again.
A run stops at such a step unless it skips it.

Writes `benchmarks/results/overhead.json`.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from benchmarks.machine import make_parser, publish
from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.commands.cli_utils import parse_config, split_recipe
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import MetricsLog
from inception_jax.monitoring.wall_time import WallTime
from inception_jax.trainer.loop import run_steps
from inception_jax.trainer.metric_accumulator import MetricAccumulator


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50, help="in each stretch")
    options, fields = parser.parse_known_args()
    config, needed = parse_config("train", fields), (2 * options.rounds + 1) * options.steps
    config = replace(
        config, log_every_steps=options.steps, evaluate_every_epochs=0, checkpoint_every_epochs=0
    )
    config = replace(config, steps=max(needed, Run(config, all_devices_placement()).steps))
    bare, saving = [], []
    with tempfile.TemporaryDirectory() as name:
        run, folder = Run(config, all_devices_placement()), epath.Path(name)
        log, checkpoints = MetricsLog(folder, start=0), Checkpoints(folder / "checkpoints", keep=2)
        accumulator = MetricAccumulator({}, stop_on_not_finite=True)
        made = run_steps(run, run.initial_state(), 0, accumulator, WallTime(), log)
        stretch = partial(make_stretch, run, made, options.steps)
        with closing(log), closing(checkpoints):
            last = stretch()  # compiles
            for _ in range(options.rounds):
                last = stretch()
                bare.append(last.seconds)
                last = stretch(checkpoints, last)
                saving.append(last.seconds)
    ratios = np.array(saving) / np.array(bare)
    publish(
        options.results / "overhead.json",
        {
            "recipe": split_recipe(fields)[0],
            "checkpoint_every_steps": options.steps,
            "rounds": options.rounds,
            "seconds_without": spread(bare),
            "seconds_with": spread(saving),
            "ratio": spread(ratios.tolist()),
            "nan_guard": guard(config),
        },
        ["orbax-checkpoint"],
    )


class Stretch(NamedTuple):
    """The last of some steps, the state after it, and the seconds that all of them took."""

    step: int
    state: Any
    seconds: float


def make_stretch(
    run: Run,
    made: Iterator[Any],
    steps: int,
    checkpoints: Checkpoints | None = None,
    last: Stretch | None = None,
) -> Stretch:
    """Makes so many steps; with `checkpoints` the state after the `last` stretch is saved
    meanwhile.
    """
    began = time.monotonic()
    if checkpoints and last:
        checkpoints.save(last.step, last.state)
    for _ in range(steps):
        step, state = next(made)
        if checkpoints:
            checkpoints.raise_if_failed()
    jax.block_until_ready(state)
    return Stretch(step, state, time.monotonic() - began)


def guard(config: Any) -> dict[str, dict[str, float]]:
    """Returns the cost of a step with the guard over one without.

    Clipping needs the norm of the gradient anyhow.
    """
    found = {}
    for name, clip_norm, rule in (
        ("clipped", config.optimizer.clip_norm, "stop"),
        ("not_clipped", None, "stop"),
        ("clipped_and_skipping", config.optimizer.clip_norm, "skip_and_count"),
    ):
        given = replace(
            config, optimizer=replace(config.optimizer, clip_norm=clip_norm), on_not_finite=rule
        )
        with_guard = cost(given)
        with mock.patch.object(jnp, "isfinite", lambda x: jnp.ones(x.shape, bool)):
            without = cost(given)
        found[name] = {key: round(with_guard[key] / without[key], 5) for key in without}
    return found


def cost(config: Any) -> dict[str, float]:
    run = Run(config, all_devices_placement())
    compiled = run.train_step.lower(run.abstract_state(), next(run.train_batches(0))).compile()
    account = compiled.cost_analysis()
    return {"flops": account["flops"], "bytes": account["bytes accessed"]}


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


if __name__ == "__main__":
    main()
