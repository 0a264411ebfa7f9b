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
    tally = MetricAccumulator({}, stop_on_not_finite=True)
    for step in range(1, 29):
        tally.add(step, sums(step, broken=step >= 21))
    with pytest.raises(NotFiniteError, match="step 21"):
        tally.add(29, sums(29, broken=True))


def test_metric_totals_are_refused_if_any_accumulated_step_is_not_finite():
    tally = MetricAccumulator({}, stop_on_not_finite=True)
    for step in range(1, 4):
        tally.add(step, sums(step, broken=step == 3))
    with pytest.raises(NotFiniteError):
        tally.total()


def test_non_finite_steps_can_be_left_out_and_counted():
    tally = MetricAccumulator({}, stop_on_not_finite=False)
    for step in range(1, 21):
        tally.add(step, sums(step, broken=step % 5 == 0))
    total = tally.take()
    assert (total["not_finite"], total["steps"], total["count"]) == (4, 16, 64)
    assert total["loss"] == sum(float(np.float32(1 / step)) for step in range(1, 21) if step % 5)
    tally.add(21, sums(21))
    assert tally.take() == {"loss": float(np.float32(1 / 21)), "count": 4, "steps": 1}


def test_a_run_of_skipped_steps_ends_at_its_limit_and_a_finite_step_begins_it_anew():
    tally = MetricAccumulator({}, stop_on_not_finite=False, max_consecutive_skipped=5)
    for step in range(1, 30):
        tally.add(step, sums(step, broken=step % 5 != 0))  # four in a row
    for step in range(31, 36):
        tally.add(step, sums(step, broken=True))
    with pytest.raises(NotFiniteError, match=r"step 3[1-5]") as found:
        tally.total()
    assert found.value.in_a_row == 5


def test_an_interrupted_and_resumed_accumulation_of_metrics_sums_to_the_same_bits():
    whole, begun = (
        MetricAccumulator({}, stop_on_not_finite=True),
        MetricAccumulator({}, stop_on_not_finite=True),
    )
    for step in range(1, 31):
        whole.add(step, sums(step))
    for step in range(1, 18):
        begun.add(step, sums(step))
    goes_on = MetricAccumulator(begun.total(), stop_on_not_finite=True)
    for step in range(18, 31):
        goes_on.add(step, sums(step))
    assert goes_on.take() == whole.take()


class Unready:
    """The result of a step that is being made: reading it too soon would wait."""

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
    tally = MetricAccumulator({}, stop_on_not_finite=True)
    for Unready.now in range(1, 40):
        tally.add(Unready.now, {"loss": None, "skipped": Unready(Unready.now)})
