"""The watch on NaN costs next to nothing, and keeps nobody waiting."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from benchmarks.small_networks import small
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.trainer.metric_accumulator import MetricAccumulator
from tests.conftest import OPTIMIZED_OPTIONS


def cost(clip_norm):
    config = small("one", steps=40)
    run = Run(
        replace(config, optimizer=replace(config.optimizer, clip_norm=clip_norm)),
        all_devices_placement(),
    )
    lowered = run.train_step.lower(run.abstract_state(), next(run.train_batches(0)))
    found = lowered.compile(compiler_options=OPTIMIZED_OPTIONS).cost_analysis()
    return found["flops"], found["bytes accessed"]


@pytest.mark.slow
@pytest.mark.parametrize("clip_norm", [2.0, None])
def test_the_nan_guard_adds_at_most_1_percent_to_the_compiled_step(clip_norm, monkeypatch):
    """By XLA's own account, against a step in which every number counts as finite: from that XLA
    takes the guard out again.
    """
    flops, bytes_accessed = cost(clip_norm)
    monkeypatch.setattr(jnp, "isfinite", lambda x: jnp.ones(x.shape, bool))
    flops_without, bytes_without = cost(clip_norm)
    assert flops_without <= flops <= 1.01 * flops_without
    assert bytes_accessed <= 1.01 * bytes_without


@pytest.mark.slow
def test_training_steps_and_metric_accumulation_make_no_implicit_transfers():
    """On a GPU the guard also refuses to read a result; on the CPU, where reading is no transfer,
    `test_tally` watches that.
    """
    run, tally = (
        Run(small("one", steps=40), all_devices_placement()),
        MetricAccumulator({}, stop_on_not_finite=True),
    )
    state, batches = run.initial_state(), run.train_batches(0)
    state, _ = run.train_step(state, next(batches))
    with jax.transfer_guard("disallow"):
        for step in range(2, 30):
            state, sums = run.train_step(state, next(batches))
            tally.add(step, sums)
    assert tally.compute_and_reset()["steps"] == 28
