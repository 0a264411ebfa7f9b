"""What the loop costs over the bare compiled step: `python benchmarks/train_step.py [--rounds 12] [--steps 25]`.

The digits recipe on whatever devices there are. In each round the bare step runs on one batch, then the whole loop goes
on for as many steps: reading, decoding, laying out, logging; evaluation and saving excluded. Turn about, so that a slow
spell of the machine meets both: each round has its ratio, and their median and spread are what counts.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
from etils import epath

from benchmarks.machine import publish
from inception_jax.experiment import Run
from inception_jax.interruption import Interruption
from inception_jax.logbook import Logbook
from inception_jax.loop import training
from inception_jax.mesh import everything
from inception_jax.recipes import recipe
from inception_jax.tally import Tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=25, help="in each round, of each kind")
    options = parser.parse_args()
    config = replace(
        recipe("digits").config,
        steps=1 + options.rounds * options.steps,
        log_every_steps=options.steps,
        evaluate_every_epochs=0,
        checkpoint_every_epochs=0,
    )
    run = Run(config, everything())
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
        log = Logbook(epath.Path(folder), start=0, steps=run.steps)
        looped = training(run, run.initial_state(), 0, Tally({}, stops=True), log, Interruption())
        last, _, metrics, _ = next(looped)
        bare_seconds, loop_seconds = [], []
        while last < run.steps:
            state, seconds = bare(state)
            bare_seconds.append(seconds)
            began, previous = time.perf_counter(), last
            while last < min(previous + options.steps, run.steps):
                last, _, metrics, _ = next(looped)
                if metrics:
                    log.write(last, metrics)
            loop_seconds.append((time.perf_counter() - began) / (last - previous))
        log.close()
    rates = {"bare": [1 / s for s in bare_seconds], "loop": [1 / s for s in loop_seconds]}
    ratios = [bare / loop for bare, loop in zip(bare_seconds, loop_seconds, strict=True)]
    publish(
        "train_step",
        {
            "recipe": "digits",
            "batch_size": config.batch_size,
            "compile_seconds": round(compile_seconds, 1),
            "steps_per_second": {
                name: {"median": round(statistics.median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}
                for name, values in rates.items()
            },
            "loop_over_bare": {
                "median": round(statistics.median(ratios), 4),
                "least": round(min(ratios), 4),
                "most": round(max(ratios), 4),
                "of_the_medians": round(statistics.median(rates["loop"]) / statistics.median(rates["bare"]), 4),
                "by_round": [round(ratio, 4) for ratio in ratios],
            },
            "steps": options.rounds * options.steps,
        },
    )


if __name__ == "__main__":
    main()
