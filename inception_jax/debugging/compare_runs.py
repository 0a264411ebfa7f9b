"""The comparison of two runs: the first step at which they differ, and how."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.checkpointing.run_record import diff_environments, read_attempts
from inception_jax.checkpointing.workdir import make_absolute
from inception_jax.config import list_differences, read_experiment
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.trainer.runs import list_saved_steps, open_run

MAX_LINES = 5
"""The number of differences of one step that are listed."""


class RunComparison(NamedTuple):
    """The steps up to which two runs are equal, and their first difference.

    Attributes:
      step: The first step at which they differ; None if they do not.
      what: The differences at that step: `train/loss: 0.5 and 0.6`.
      configuration: Identity fields that differ.
      environment: Versions, devices and flags that differ.
      rows: The number of steps for which both have metrics.
      checkpoints: The steps of the compared checkpoints.
    """

    step: float | None
    what: list[str]
    configuration: list[str]
    environment: list[str]
    rows: int
    checkpoints: list[int]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields under the keys of version 0.1, where `environment` was `room`."""
        return {"room" if name == "environment" else name: v for name, v in self._asdict().items()}

    def format_lines(self) -> list[str]:
        """Returns the comparison as lines of text."""
        steps = ", ".join(map(str, self.checkpoints)) or "no step"
        if not self.rows and not self.checkpoints:
            head = "these runs have no step in common"
        elif self.step is None:
            head = (
                f"the same to the last bit in {self.rows} steps' metrics and the checkpoints of "
                f"{steps}"
            )
        else:
            head = f"the first difference is at step {self.step}:"
        return [
            head,
            *(f"  {line}" for line in self.what),
            *(f"configuration: {line}" for line in self.configuration),
            *(f"environment: {line}" for line in self.environment),
        ]


def compare_runs(a: str, b: str) -> RunComparison:
    """Compares two runs: their metrics, then the checkpoints before the first difference.

    Only metrics of the network count (`train/`, `val/`), not those of its speed.

    Args:
      a: The workdir of the first run.
      b: The workdir of the second run.

    Raises:
      ConfigError: A workdir holds no run.
      CheckpointError: A checkpoint cannot be read, or is of another network.
    """
    workdirs = [make_absolute(run) for run in (a, b)]
    configuration = list_differences(*(read_experiment(workdir) for workdir in workdirs))
    attempts = [read_attempts(workdir) for workdir in workdirs]
    environment = diff_environments(attempts[0][-1], attempts[1][-1]) if all(attempts) else []
    metrics_a, metrics_b = group_metrics_by_step(a), group_metrics_by_step(b)
    common = sorted(metrics_a.keys() & metrics_b.keys())
    first, differences = None, []
    for step in sorted(metrics_a.keys() | metrics_b.keys()):
        if step > max(common, default=-1):
            break  # one of the runs ends here
        if lines := diff_metrics(metrics_a.get(step, []), metrics_b.get(step, [])):
            first, differences = step, lines
            break
    compared = []
    for step in sorted(set(list_saved_steps(a)) & set(list_saved_steps(b))):
        if first is not None and step > first:
            break
        compared.append(step)
        if lines := diff_states(f"{a}@{step}", f"{b}@{step}"):
            first, differences = step, differences + lines if step == first else lines
            break
    return RunComparison(first, differences, configuration, environment, len(common), compared)


def group_metrics_by_step(run: str) -> dict[float, list[tuple[str, float]]]:
    """Returns the metrics of the network in a workdir, by step: (name, value) in row order."""
    by_step: dict[float, list[tuple[str, float]]] = {}
    if not (make_absolute(run) / "metrics.jsonl").exists():
        return by_step
    for row in read_metrics(make_absolute(run)):
        metrics = [(name, row[name]) for name in row if name.startswith(("train/", "val/"))]
        by_step.setdefault(row["step"], []).extend(metrics)
    return by_step


def diff_metrics(a: Sequence[tuple[str, float]], b: Sequence[tuple[str, float]]) -> list[str]:
    """Returns the differences between the metrics of one step; a repeated row is one."""
    values_a, values_b = dict(a), dict(b)
    names = sorted(values_a.keys() | values_b.keys())
    lines = [
        f"{name}: {values_a.get(name, 'nothing')} and {values_b.get(name, 'nothing')}"
        for name in names
        if repr(values_a.get(name)) != repr(values_b.get(name))
    ]
    if not lines and len(a) != len(b):
        return [f"{len(a)} metrics and {len(b)}"]
    return truncate_lines(lines)


def diff_states(a: str, b: str) -> list[str]:
    """Returns the arrays that differ between two saved states, and the largest difference.

    Args:
      a: The workdir and step of the first state, `runs/a@500`.
      b: The workdir and step of the second state.
    """
    arrays_a, arrays_b = _load_arrays(a), _load_arrays(b)
    lines = [f"{name} is in one of them only" for name in sorted(arrays_a.keys() ^ arrays_b.keys())]
    for name in sorted(arrays_a.keys() & arrays_b.keys()):
        array_a, array_b = arrays_a[name], arrays_b[name]
        if array_a.shape != array_b.shape:
            lines.append(f"{name}: {array_a.shape} and {array_b.shape}")
        elif array_a.tobytes() != array_b.tobytes():
            difference = np.abs(np.float64(array_a) - np.float64(array_b)).max()
            lines.append(f"{name}: by at most {difference:.3g}")
    return truncate_lines(lines)


def _load_arrays(run: str) -> dict[str, np.ndarray]:
    state = open_run(run, with_optimizer=True).state
    return {name: np.asarray(leaf) for name, leaf in flatten_with_names(state)}


def truncate_lines(lines: list[str]) -> list[str]:
    """Returns the first `MAX_LINES` lines, and the number of the others."""
    more = len(lines) - MAX_LINES
    return lines[:MAX_LINES] + ([f"and {more} more"] if more > 0 else [])
