"""The comparison of several runs: steps to the baseline's best, on curves counted by hand."""

import json
from math import sqrt

import numpy as np
import pytest

from inception_jax.cli import main
from inception_jax.config import ConfigError, Experiment, Model, Optimizer, to_json
from inception_jax.report.comparison import (
    Curve,
    compare_curves,
    format_range,
    load_curves,
    make_table_cells,
)
from inception_jax.report.published import read_published

STEPS = np.arange(1, 13) * 10.0


def make_curve(name, values, seed=0, held_out=0):
    return Curve(name, seed, STEPS[: len(values)], np.array(values), held_out, np.array(values))


def test_the_threshold_of_a_curve_is_its_best_mean_of_five_less_one_standard_error():
    curve = make_curve(
        "a", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8], held_out=450
    )
    assert curve.best == pytest.approx(np.mean([0.8, 1.0, 0.8, 0.8, 0.8]))
    assert curve.threshold == pytest.approx(0.84 - sqrt(0.84 * 0.16 / 450))
    # One standard error of 450 images is 0.8 points.
    curve_of_450 = make_curve("a", [0.97] * 5, held_out=450)
    assert curve_of_450.threshold == pytest.approx(0.97 - 0.00804, abs=1e-5)
    assert curve.steps_to(0.72) == 70  # (0.4 + 0.6 + 0.8 + 1.0 + 0.8) / 5
    assert curve.steps_to(0.9) == float("inf")


def test_one_lucky_evaluation_does_not_set_the_best_of_a_curve():
    assert make_curve("a", [0.5] * 5 + [1.0] + [0.5] * 6).best == pytest.approx(0.6)
    assert make_curve("a", [1.0, 0.5, 0.5, 0.5, 0.5, 0.5]).best == pytest.approx(0.6)


def test_the_comparison_of_runs_pairs_them_by_seed():
    slow = [
        make_curve("inception", np.minimum(np.arange(12) / 8, 0.9), 0),
        make_curve("inception", np.minimum(np.arange(12) / 9, 0.6), 1),
    ]
    fast = [
        make_curve("bn_x5", [0.9] * 12, 0),
        make_curve("bn_x5", [0.6] * 12, 1),
        make_curve("bn_x5", [0.1] * 12, 2),
    ]
    baseline, quick = compare_curves([*slow, *fast])
    assert baseline.speed_up == [1.0, 1.0]
    assert quick.steps == [50, 50, float("inf")]
    assert quick.speed_up[:2] == [baseline.steps[0] / 50, baseline.steps[1] / 50]
    assert quick.speed_up[2] == 0
    assert format_range(quick.steps, "{:.0f}") == "50 (50 to never)"
    header, rows = make_table_cells(
        [baseline, quick], {row["key"]: row for row in read_published()}
    )
    assert header[-3:] == ("published: steps to 72.2 %", "speed-up", "maximum")
    assert rows[0][-3:] == ("31.0e6", "1.0", "72.2%")
    assert rows[1][-3:] == ("2.1e6", "14.8", "73.0%")


def make_run(folder, network="inception_v3", rate=0.1, seed=0, **fields):
    """Writes the workdir of an evaluated run with this configuration."""
    folder.mkdir(parents=True)
    config = Experiment(
        Model(network),
        optimizer=Optimizer(learning_rate=rate),
        seed=seed,
        workdir=str(folder),
        **fields,
    )
    (folder / "experiment.json").write_text(json.dumps(to_json(config)))
    (folder / "metrics.jsonl").write_text('{"step": 1, "val/top1": 0.5, "val/count": 10}\n')
    return folder


def test_runs_that_differ_only_in_seed_and_logging_share_one_name(tmp_path):
    x5 = [make_run(tmp_path / f"x5_{seed}", seed=seed, rate=0.5) for seed in (0, 1)]
    others = [
        make_run(tmp_path / "x30", rate=3.0),
        make_run(tmp_path / "a"),
        make_run(tmp_path / "b", seed=1, log_every_steps=7),
    ]
    curves = load_curves([*x5, *others])
    assert [curve.name for curve in curves] == ["x5", "x5", "x30", "a", "a"]
    assert [curve.seed for curve in curves] == [0, 1, 0, 0, 1]


def test_runs_of_different_configurations_never_share_a_name(tmp_path):
    runs = [
        make_run(tmp_path / name / str(seed), rate=rate, seed=seed)
        for name, rate in (("inception", 0.1), ("bn_x5", 0.5))
        for seed in (1, 2)
    ]
    assert [curve.name for curve in load_curves(runs)] == [
        "inception",
        "inception",
        "bn_x5",
        "bn_x5",
    ]
    tuned = [
        make_run(tmp_path / "c" / name, rate=0.7, init_from=start)
        for name, start in (("run", None), ("run_", "elsewhere"))
    ]
    assert len({curve.name for curve in load_curves(tuned)}) == 2


def test_the_comparison_of_runs_refuses_the_same_run_twice(tmp_path):
    runs = [make_run(tmp_path / "short", epochs=2), make_run(tmp_path / "long", epochs=9)]
    with pytest.raises(ConfigError, match="are the same run, with the same seed 0"):
        load_curves(runs)


def test_the_median_is_never_if_half_of_the_runs_do_not_reach_the_score():
    assert format_range([100, 200, float("inf"), float("inf")], "{:.0f}") == "never (100 to never)"
    assert format_range([0.0, 0.0, 2.0, 4.0], "{:.1f}") == "never (never to 4.0)"
    assert format_range([1.0, 2.0], "{:.1f}") == "1.5 (1.0 to 2.0)"


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('{"step": 1, "train/loss": 1.0}\n', 78, "holds no held-out score"),
        (
            '{"step": 1, "val/top1": 0.5}\n{"step": 2, "val/to\n{"step": 3, "val/top1": 0.5}\n',
            65,
            "metrics.jsonl, line 2 cannot be read",
        ),
    ],
)
def test_report_refuses_metrics_that_have_no_score_or_cannot_be_read(
    tmp_path, capsys, text, code, message
):
    other = make_run(tmp_path / "other")
    (tmp_path / "metrics.jsonl").write_text(text)
    assert main(["report", str(tmp_path), str(other), "--output", str(tmp_path)]) == code
    stderr = capsys.readouterr().err
    assert message in stderr
    assert str(tmp_path) in stderr
