"""Slows the phases of a run down and prints when they begin: `--import tests.faults.slow`."""

import time

import jax

from inception_jax.checkpointing import checkpoints as checkpoint
from inception_jax.evaluation import protocol
from inception_jax.experiment import Run
from inception_jax.trainer import loop


def announced(phase, function):
    def slow(*arguments, **keywords):
        print(f"now in {phase}", flush=True)
        time.sleep(0.3)
        return function(*arguments, **keywords)

    return slow


def paced(batches):
    for batch in batches:
        time.sleep(0.1)
        yield batch


jax.distributed.initialize = announced("joining", jax.distributed.initialize)
Run.format_summary = announced("start-up", Run.format_summary)
checkpoint.Checkpoints._finalize = announced("saving", checkpoint.Checkpoints._finalize)
test_batches = Run.test_batches
Run.test_batches = lambda run, *arguments: paced(test_batches(run, *arguments))
loop.evaluate_state = announced("evaluation", loop.evaluate_state)
protocol.estimate_population_statistics = announced(
    "population statistics", protocol.estimate_population_statistics
)
