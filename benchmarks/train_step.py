"""Measures what the loop costs over the bare compiled step.

    python benchmarks/train_step.py [--rounds 12] [--steps 25] [RECIPE]

RECIPE, the digits' where none is named, on whatever devices there are; fields change it:
`--batch-size 32`. In each round the bare step runs on one batch, then the whole loop goes on for as
many steps: reading, decoding, laying out, logging; evaluation and saving excluded. Turn about, so
that a slow spell of the machine meets both: each round has its ratio, and their median and spread
are what counts.
"""

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace

import jax
from etils import epath

from benchmarks.machine import make_parser, publish
from inception_jax.commands.cli_utils import parse_config, split_recipe
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import MetricsLog
from inception_jax.monitoring.wall_time import WallTime
from inception_jax.trainer.loop import run_steps
from inception_jax.trainer.metric_accumulator import MetricAccumulator


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=25, help="in each round, of each kind")
    options, fields = parser.parse_known_args()
    config, needed = parse_config("train", fields), (1 + options.rounds) * options.steps
    config = replace(
        config, log_every_steps=options.steps, evaluate_every_epochs=0, checkpoint_every_epochs=0
    )
    run = Run(
        replace(config, steps=max(needed, Run(config, all_devices_placement()).steps)),
        all_devices_placement(),
    )
    state, batch = run.initial_state(), next(run.train_batches(0))
    began = time.perf_counter()
    step = run.train_step.lower(state, batch).compile()
    compile_seconds = time.perf_counter() - began

    def bare(state):
        began = time.perf_counter()
        for _ in range(options.steps):
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        return state, (time.perf_counter() - began) / options.steps

    state, _ = bare(state)  # warm
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(epath.Path(folder), start=0)
        sheet, accumulator = WallTime(), MetricAccumulator({}, stop_on_not_finite=True)
        looped = run_steps(run, run.initial_state(), 0, accumulator, sheet, log)

        def loop():
            began = time.perf_counter()
            for _ in range(options.steps):  # the last of them is logged, and so waited for
                next(looped)
            return (time.perf_counter() - began) / options.steps

        bare_seconds, loop_seconds = [], []
        with closing(log):
            loop()  # compiles
            for _ in range(options.rounds):
                state, seconds = bare(state)
                bare_seconds.append(seconds)
                sheet.record("restart")  # else the loop takes the bare steps for a wait for data
                loop_seconds.append(loop())
    rates = {"bare": [1 / s for s in bare_seconds], "loop": [1 / s for s in loop_seconds]}
    ratios = [bare / loop for bare, loop in zip(bare_seconds, loop_seconds, strict=True)]
    publish(
        options.results / "train_step.json",
        {
            "recipe": split_recipe(fields)[0],
            "batch_size": config.batch_size,
            "compile_seconds": round(compile_seconds, 1),
            "steps_per_second": {
                name: {
                    "median": round(statistics.median(values), 3),
                    "least": round(min(values), 3),
                    "most": round(max(values), 3),
                }
                for name, values in rates.items()
            },
            "loop_over_bare": {
                "median": round(statistics.median(ratios), 4),
                "least": round(min(ratios), 4),
                "most": round(max(ratios), 4),
                "of_the_medians": round(
                    statistics.median(rates["loop"]) / statistics.median(rates["bare"]), 4
                ),
                "by_round": [round(ratio, 4) for ratio in ratios],
            },
            "steps": options.rounds * options.steps,
        },
    )


if __name__ == "__main__":
    main()
