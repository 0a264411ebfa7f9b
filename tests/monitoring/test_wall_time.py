import time

import pytest

from inception_jax.monitoring.wall_time import KINDS, WallTime, sum_seconds_by_kind


def test_all_wall_time_is_recorded_under_exactly_one_kind():
    began, wall_time = time.monotonic(), WallTime()
    rows = []
    for kind in (*KINDS, "step"):
        time.sleep(0.01)
        assert wall_time.record(kind) >= 0.01
        if kind in ("compile", "step"):
            rows.append({"step": 1, **wall_time.collect_metrics()})
    assert sum(sum_seconds_by_kind(rows).values()) == pytest.approx(
        time.monotonic() - began, abs=5e-3
    )
    assert set(sum_seconds_by_kind(rows)) == set(KINDS)
    assert rows[0].keys() == {"step", "perf/seconds_step"}
    assert "evaluation 1" in wall_time.format_summary()
