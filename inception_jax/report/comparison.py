"""Several runs beside each other, as figure 2 of "Batch Normalization" has them: accuracy against steps, and the steps that a
run needs to be as good as the baseline ever was (arXiv:1502.03167, section 4.2.2 and figure 3)."""

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
"""Evaluations that are averaged before one is called better than another."""


class Curve(NamedTuple):
    """The held-out scores of one run.

    Attributes:
      name: of what was run; runs that differ in their seed alone have the same.
      seed: pairs a run with the baseline's of the same seed.
      steps: [E] after which it was evaluated.
      top1: [E] held-out accuracy.
      held_out: examples; 0 where nobody knows.
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
        """[E] the mean of each evaluation and the four before it; of the first ones, of as many as there are."""
        sums = np.cumsum(np.concatenate([[0.0], self.top1]))
        stops = np.arange(1, len(self.top1) + 1)
        starts = np.maximum(stops - SMOOTHING_WINDOW, 0)
        return (sums[stops] - sums[starts]) / (stops - starts)

    @property
    def best(self) -> float:
        """The highest mean of five evaluations."""
        return float(self.smoothed_top1[min(SMOOTHING_WINDOW, len(self.top1)) - 1 :].max())

    @property
    def threshold(self) -> float:
        """The best less its standard error: from here on a difference may be chance."""
        return self.best - (
            sqrt(self.best * (1 - self.best) / self.held_out) if self.held_out else 0.0
        )

    def steps_to(self, accuracy: float) -> float:
        """The first evaluated step whose mean of five reaches `accuracy`; infinite where none does."""
        reached = self.smoothed_top1 >= accuracy
        reached[: min(SMOOTHING_WINDOW, len(reached)) - 1] = False
        return float(self.steps[reached.argmax()]) if reached.any() else float("inf")


class SpeedComparison(NamedTuple):
    """What the runs of one name came to, seed by seed; `ratio` is of the baseline's steps to theirs."""

    name: str
    steps: list[float]
    speed_up: list[float]
    best: list[float]
    maximum: list[float]


def make_curve(
    name: str, seed: int, rows: Iterable[Mapping[str, float]], workdir: Path | None = None
) -> Curve:
    """Of the rows of a `metrics.jsonl`.

    Raises:
      ConfigError: no row holds a held-out score.
    """
    scored = [row for row in rows if "val/top1" in row]
    if not scored:
        raise ConfigError(
            f"{workdir or name} holds no held-out score: give runs that were evaluated"
        )
    steps, top1, loss = np.array(
        [(row["step"], row["val/top1"], row.get("val/loss", np.nan)) for row in scored]
    ).T
    return Curve(name, seed, steps, top1, int(scored[-1].get("val/count", 0)), loss)


def compare_curves(curves: Sequence[Curve]) -> list[SpeedComparison]:
    """One for each name; the first is the baseline's. A seed that the baseline has not is held against the median of its own."""
    names = list(dict.fromkeys(one.name for one in curves))
    of = {name: [one for one in curves if one.name == name] for name in names}
    baseline = {one.seed: (one.threshold, one.steps_to(one.threshold)) for one in of[names[0]]}
    usual = tuple(np.median(list(baseline.values()), 0))
    found = []
    for name in names:
        goals = [baseline.get(one.seed, usual) for one in of[name]]
        steps = [one.steps_to(goal) for one, (goal, _) in zip(of[name], goals, strict=True)]
        ratio = [
            needed / own for own, (_, needed) in zip(steps, goals, strict=True)
        ]  # 0 where it never was as good
        found.append(
            SpeedComparison(
                name,
                steps,
                ratio,
                [one.best for one in of[name]],
                [float(one.top1.max()) for one in of[name]],
            )
        )
    return found


def make_table_cells(
    found: Iterable[SpeedComparison], published: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and lines of a table; `published` are the rows of `published.json` by key, whose figure 3 stands beside the names it has."""
    found = list(found)
    of = [published.get(one.name, {}) for one in found]
    base = of[0].get("steps_to_72_2")
    head: tuple[str, ...] = (
        "run",
        "seeds",
        "steps to the baseline's best",
        "times fewer",
        "best mean of five",
        "maximum",
    )
    lines: list[tuple[str, ...]] = [
        (one.name, str(len(one.best)), format_range(one.steps, "{:,.0f}"), format_range(one.speed_up, "{:.2f}"), format_range(one.best, "{:.2%}"),
         format_range(one.maximum, "{:.2%}"))
        for one in found
    ]  # fmt: skip
    if base is None:
        return head, lines
    theirs = [
        (
            f"{steps / 1e6:.1f}e6" if steps else "",
            f"{base / steps:.1f}" if steps else "",
            f"{100 - row['top1_error']:.1f}%" if row else "",
        )
        for row in of
        for steps in [row.get("steps_to_72_2")]
    ]
    head += ("published: steps to 72.2 %", "times fewer", "maximum")
    return head, [(*line, *row) for line, row in zip(lines, theirs, strict=True)]


def format_range(values: Sequence[float], form: str) -> str:
    """The median, and the range in brackets; "never" for what was not reached."""
    # Of an even number the later of the two in the middle: the mean of a number and "never" is none.
    never_is_high = float("inf") in values
    middle = np.quantile(
        values, 0.5, method="higher" if never_is_high else "lower" if 0.0 in values else "linear"
    )
    text = [
        form.format(value) if 0 < value < float("inf") else "never"
        for value in (middle, min(values), max(values))
    ]
    return text[0] if len(set(text)) == 1 else f"{text[0]} ({text[1]} to {text[2]})"


def format_comparison(curves: Sequence[Curve], published: Mapping[str, Mapping[str, Any]]) -> str:
    return align_columns(*make_table_cells(compare_curves(curves), published))


def load_curves(workdirs: Sequence[Path]) -> list[Curve]:
    """Of these runs. Those that differ in their seed alone get one name: what the names of their folders begin with.

    A folder whose name is a number goes by the folder that it lies in, as an ensemble's members do.

    Raises:
      ConfigError: a run without held-out scores, or the same run twice.
    """
    kinds: dict[str, dict[int, Path]] = {}
    for workdir in workdirs:
        kind, seed = _kind(workdir)
        if other := kinds.setdefault(kind, {}).get(seed):
            raise ConfigError(
                f"{other} and {workdir} are the same run, with the same seed {seed}: give one of them"
            )
        kinds[kind][seed] = workdir
    named: dict[str, str] = {}
    for kind, runs in kinds.items():
        labels = [_label(workdir) for workdir in runs.values()]
        choices = [
            os.path.commonprefix(labels).rstrip("_-."),
            labels[0],
            str(next(iter(runs.values()))),
        ]  # noqa: RUF071
        named[kind] = next(choice for choice in choices if choice and choice not in named.values())
    return [
        make_curve(named[kind], seed, read_metrics(workdir), workdir)
        for workdir in workdirs
        for kind, seed in [_kind(workdir)]
    ]


def _kind(workdir: Path) -> tuple[str, int]:
    """What a run is but for its seed, and the seed."""
    if not (workdir / "experiment.json").exists():
        return str(workdir), 0
    config = read_experiment(workdir)
    identity = {**config.identity(), "init_from": config.init_from}
    seed = identity.pop("seed")
    return json.dumps(identity, sort_keys=True), seed


def _label(workdir: Path) -> str:
    folder = workdir.resolve()
    return folder.parent.name if folder.name.isdigit() else folder.name
