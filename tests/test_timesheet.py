import time

import pytest

from inception_jax.timesheet import KINDS, Timesheet, spent


def test_all_wall_time_is_recorded_under_exactly_one_kind():
    began, sheet = time.monotonic(), Timesheet()
    rows = []
    for kind in (*KINDS, "step"):
        time.sleep(0.01)
        assert sheet.book(kind) >= 0.01
        if kind in ("compile", "step"):
            rows.append({"step": 1, **sheet.take()})
    assert sum(spent(rows).values()) == pytest.approx(time.monotonic() - began, abs=5e-3)
    assert set(spent(rows)) == set(KINDS)
    assert rows[0].keys() == {"step", "perf/seconds_step"}
    assert "evaluation 1" in sheet.summary()
