import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.trainer.metric_accumulator import (
    READ_DELAY_STEPS,
    MetricAccumulator,
    NotFiniteError,
)


def sums(step, broken=False):
    loss = jnp.float32(np.nan if broken else 1 / step)
    return {"loss": loss, "count": jnp.float32(4), "skipped": jnp.bool_(broken)}


def test_a_non_finite_step_is_found_within_ten_steps():
    accumulator = MetricAccumulator({}, stop_on_not_finite=True)
    for step in range(1, 29):
        accumulator.add(step, sums(step, broken=step >= 21))
    with pytest.raises(NotFiniteError, match="step 21"):
        accumulator.add(29, sums(29, broken=True))


def test_metric_totals_are_refused_if_any_accumulated_step_is_not_finite():
    accumulator = MetricAccumulator({}, stop_on_not_finite=True)
    for step in range(1, 4):
        accumulator.add(step, sums(step, broken=step == 3))
    with pytest.raises(NotFiniteError):
        accumulator.compute()


def test_non_finite_steps_can_be_left_out_and_counted():
    accumulator = MetricAccumulator({}, stop_on_not_finite=False)
    for step in range(1, 21):
        accumulator.add(step, sums(step, broken=step % 5 == 0))
    total = accumulator.compute_and_reset()
    assert (total["not_finite"], total["steps"], total["count"]) == (4, 16, 64)
    assert total["loss"] == sum(float(np.float32(1 / step)) for step in range(1, 21) if step % 5)
    accumulator.add(21, sums(21))
    assert accumulator.compute_and_reset() == {
        "loss": float(np.float32(1 / 21)),
        "count": 4,
        "steps": 1,
    }


def test_consecutive_skipped_steps_are_limited_and_a_finite_step_resets_their_count():
    accumulator = MetricAccumulator({}, stop_on_not_finite=False, max_consecutive_skipped=5)
    for step in range(1, 30):
        accumulator.add(step, sums(step, broken=step % 5 != 0))  # four in a row
    for step in range(31, 36):
        accumulator.add(step, sums(step, broken=True))
    with pytest.raises(NotFiniteError, match=r"step 3[1-5]") as caught:
        accumulator.compute()
    assert caught.value.consecutive == 5


def test_an_interrupted_and_resumed_accumulation_of_metrics_sums_to_the_same_bits():
    uninterrupted, interrupted = (
        MetricAccumulator({}, stop_on_not_finite=True),
        MetricAccumulator({}, stop_on_not_finite=True),
    )
    for step in range(1, 31):
        uninterrupted.add(step, sums(step))
    for step in range(1, 18):
        interrupted.add(step, sums(step))
    resumed = MetricAccumulator(interrupted.compute(), stop_on_not_finite=True)
    for step in range(18, 31):
        resumed.add(step, sums(step))
    assert resumed.compute_and_reset() == uninterrupted.compute_and_reset()


class Unready:
    """The result of a step that is still computed: reading it too early would wait."""

    now = 0

    def __init__(self, step):
        self.step = step

    def copy_to_host_async(self):
        pass

    def __array__(self, dtype=None, copy=None):
        assert Unready.now - self.step >= READ_DELAY_STEPS
        return np.zeros((), bool)


def test_metric_accumulation_reads_only_results_requested_eight_steps_ago(monkeypatch):
    monkeypatch.setattr(jax, "device_get", lambda x: bool(np.asarray(x)))
    accumulator = MetricAccumulator({}, stop_on_not_finite=True)
    for Unready.now in range(1, 40):
        accumulator.add(Unready.now, {"loss": None, "skipped": Unready(Unready.now)})
