"""The comparison of several runs: accuracy by step, and the speed-up over a baseline.

The layout is that of figures 2 and 3 and section 4.2.2 of "Batch Normalization"
(arXiv:1502.03167): the steps that each run needs to reach the best accuracy of the baseline.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.config import ConfigError, read_experiment
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.report.tables import align_columns

SMOOTHING_WINDOW = 5
"""The number of evaluations that are averaged before accuracies are compared."""


class Curve(NamedTuple):
    """The held-out scores of one run.

    Attributes:
      name: The name of the run; runs that differ only in their seed share one.
      seed: The seed, which pairs a run with the run of the baseline that has the same one.
      steps: [E] the step of each evaluation.
      top1: [E] held-out accuracy.
      held_out: The number of held-out examples; 0 if unknown.
      loss: [E] held-out loss.
    """

    name: str
    seed: int
    steps: np.ndarray
    top1: np.ndarray
    held_out: int
    loss: np.ndarray

    @property
    def smoothed_top1(self) -> np.ndarray:
        """Returns [E] the mean of each evaluation and the four before it, or as many as exist."""
        sums = np.cumsum(np.concatenate([[0.0], self.top1]))
        stops = np.arange(1, len(self.top1) + 1)
        starts = np.maximum(stops - SMOOTHING_WINDOW, 0)
        return (sums[stops] - sums[starts]) / (stops - starts)

    @property
    def best(self) -> float:
        """Returns the highest mean of five evaluations."""
        return float(self.smoothed_top1[min(SMOOTHING_WINDOW, len(self.top1)) - 1 :].max())

    @property
    def threshold(self) -> float:
        """Returns the best less one standard error: a smaller difference may be chance."""
        if not self.held_out:
            return self.best
        return self.best - sqrt(self.best * (1 - self.best) / self.held_out)

    def steps_to(self, accuracy: float) -> float:
        """Returns the first step whose mean of five reaches `accuracy`; infinity if none does."""
        is_reached = self.smoothed_top1 >= accuracy
        is_reached[: min(SMOOTHING_WINDOW, len(is_reached)) - 1] = False
        return float(self.steps[is_reached.argmax()]) if is_reached.any() else float("inf")


class SpeedComparison(NamedTuple):
    """The results of the runs of one name, by seed.

    Attributes:
      name: The name of the runs.
      steps: Steps to the baseline's threshold; infinity if a run never reaches it.
      speed_up: The baseline's steps divided by these; 0 if a run never reaches the threshold.
      best: The highest mean of five evaluations.
      maximum: The highest accuracy of a single evaluation.
    """

    name: str
    steps: list[float]
    speed_up: list[float]
    best: list[float]
    maximum: list[float]


def make_curve(
    name: str, seed: int, rows: Iterable[Mapping[str, float]], workdir: Path | None = None
) -> Curve:
    """Returns the curve of a run from its rows of metrics.

    Args:
      workdir: The workdir of the run, for the message.

    Raises:
      ConfigError: No row has a held-out score.
    """
    scored = [row for row in rows if "val/top1" in row]
    if not scored:
        raise ConfigError(
            f"{workdir or name} holds no held-out score: give runs that were evaluated"
        )
    columns = [(row["step"], row["val/top1"], row.get("val/loss", np.nan)) for row in scored]
    steps, top1, loss = np.array(columns).T
    return Curve(name, seed, steps, top1, int(scored[-1].get("val/count", 0)), loss)


def compare_curves(curves: Sequence[Curve]) -> list[SpeedComparison]:
    """Compares the runs of each name with the baseline, which is the first name.

    A run whose seed the baseline lacks is compared with the median of the baseline's runs.
    """
    by_name: dict[str, list[Curve]] = {}
    for curve in curves:
        by_name.setdefault(curve.name, []).append(curve)
    baseline = {
        curve.seed: (curve.threshold, curve.steps_to(curve.threshold))
        for curve in by_name[curves[0].name]
    }
    median = tuple(np.median(list(baseline.values()), 0))
    comparisons = []
    for name, runs in by_name.items():
        goals = [baseline.get(run.seed, median) for run in runs]
        steps = [run.steps_to(threshold) for run, (threshold, _) in zip(runs, goals, strict=True)]
        comparisons.append(
            SpeedComparison(
                name,
                steps,
                speed_up=[base / own for own, (_, base) in zip(steps, goals, strict=True)],
                best=[run.best for run in runs],
                maximum=[float(run.top1.max()) for run in runs],
            )
        )
    return comparisons


def make_table_cells(
    comparisons: Iterable[SpeedComparison], published: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the header and the rows of a table.

    Args:
      comparisons: The comparisons, the baseline first.
      published: The rows of `published.json` by key. If the baseline has one with steps (figure 3
        of arXiv:1502.03167), each row of the table gets the published results of its name.
    """
    comparisons = list(comparisons)
    header: tuple[str, ...] = (
        "run",
        "seeds",
        "steps to the baseline's best",
        "speed-up",
        "best mean of five",
        "maximum",
    )
    rows: list[tuple[str, ...]] = [
        (
            item.name,
            str(len(item.best)),
            format_range(item.steps, "{:,.0f}"),
            format_range(item.speed_up, "{:.2f}"),
            format_range(item.best, "{:.2%}"),
            format_range(item.maximum, "{:.2%}"),
        )
        for item in comparisons
    ]
    entries = [published.get(item.name, {}) for item in comparisons]
    if (base := entries[0].get("steps_to_72_2")) is None:
        return header, rows
    header += ("published: steps to 72.2 %", "speed-up", "maximum")
    cells = [_make_published_cells(entry, base) for entry in entries]
    return header, [(*row, *more) for row, more in zip(rows, cells, strict=True)]


def _make_published_cells(entry: Mapping[str, Any], base: float) -> tuple[str, str, str]:
    maximum = f"{100 - entry['top1_error']:.1f}%" if entry else ""
    if not (steps := entry.get("steps_to_72_2")):
        return "", "", maximum
    return f"{steps / 1e6:.1f}e6", f"{base / steps:.1f}", maximum


def format_range(values: Sequence[float], form: str) -> str:
    """Returns the median and the range: `5 (4 to 7)`; "never" for 0 and infinity.

    Args:
      values: The values.
      form: A format for one value: `{:.2f}`.
    """
    # The mean of a number and "never" is undefined: of the two middle values the worse one counts.
    method = "linear"
    if float("inf") in values:
        method = "higher"
    elif 0.0 in values:
        method = "lower"
    middle = np.quantile(values, 0.5, method=method)  # type: ignore[call-overload]
    median, low, high = (
        form.format(value) if 0 < value < float("inf") else "never"
        for value in (middle, min(values), max(values))
    )
    return median if median == low == high else f"{median} ({low} to {high})"


def format_comparison(curves: Sequence[Curve], published: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the comparison of several runs as a table of text."""
    return align_columns(*make_table_cells(compare_curves(curves), published))


def load_curves(workdirs: Sequence[Path]) -> list[Curve]:
    """Returns the curves of several runs.

    Runs that differ only in their seed share one name: the common prefix of their folders. A folder
    whose name is a number, such as a member of an ensemble, counts with its parent's name.

    Raises:
      ConfigError: A run has no held-out score, or the same run is given twice.
    """
    groups: dict[str, dict[int, Path]] = {}
    for workdir in workdirs:
        identity, seed = _read_identity(workdir)
        if other := groups.setdefault(identity, {}).get(seed):
            raise ConfigError(
                f"{other} and {workdir} are the same run, with the same seed {seed}: "
                "give one of them"
            )
        groups[identity][seed] = workdir
    names: dict[str, str] = {}
    for identity, runs in groups.items():
        labels = [_get_label(workdir) for workdir in runs.values()]
        prefix = os.path.commonprefix(labels).rstrip("_-.")  # noqa: RUF071
        choices = (prefix, labels[0], str(next(iter(runs.values()))))
        names[identity] = next(name for name in choices if name and name not in names.values())
    curves = []
    for workdir in workdirs:
        identity, seed = _read_identity(workdir)
        curves.append(make_curve(names[identity], seed, read_metrics(workdir), workdir))
    return curves


def _read_identity(workdir: Path) -> tuple[str, int]:
    """Returns the identity of a run without its seed, as text, and the seed."""
    if not (workdir / "experiment.json").exists():
        return str(workdir), 0
    config = read_experiment(workdir)
    identity = {**config.identity(), "init_from": config.init_from}
    seed = identity.pop("seed")
    return json.dumps(identity, sort_keys=True), seed


def _get_label(workdir: Path) -> str:
    folder = workdir.resolve()
    return folder.parent.name if folder.name.isdigit() else folder.name
