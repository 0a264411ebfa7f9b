"""Where two runs part: the first step at which they differ, and in what."""

from typing import NamedTuple

import numpy as np

from inception_jax.checkpointing.packing import named_arrays
from inception_jax.checkpointing.run_record import diff_environments, read_attempts
from inception_jax.checkpointing.workdir import make_absolute
from inception_jax.config import list_differences, read_experiment
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.trainer.runs import list_saved_steps, open_run

MAX_LINES = 5
"""Differences of one step that are told of."""


class RunComparison(NamedTuple):
    """What two runs have in common, and where that ends.

    Attributes:
      step: the first at which they differ; None where they do not.
      what: `train/loss: 0.5 and 0.6`, of that step.
      configuration: identity fields that differ.
      room: versions, devices and flags that differ.
      rows: steps whose figures both have.
      checkpoints: steps whose arrays both have, of those that were compared.
    """

    step: float | None
    what: list[str]
    configuration: list[str]
    room: list[str]
    rows: int
    checkpoints: list[int]

    def lines(self) -> list[str]:
        """For a reader."""
        common = f"{self.rows} steps' figures and the checkpoints of {', '.join(map(str, self.checkpoints)) or 'no step'}"
        head = (
            f"the same to the last bit in {common}"
            if self.step is None
            else f"the first difference is at step {self.step}:"
        )
        if not self.rows and not self.checkpoints:
            head = "these runs have no step in common"
        causes = [("configuration", self.configuration), ("what they ran on", self.room)]
        return [
            head,
            *(f"  {line}" for line in self.what),
            *(f"{name}: {line}" for name, lines in causes for line in lines),
        ]


def compare_runs(a: str, b: str) -> RunComparison:
    """Compares figures of the network (not how fast they came), then the arrays of the checkpoints before the first difference.

    Raises:
      ConfigError: a folder that is no run.
      CheckpointError: a checkpoint that cannot be read, or of another network.
      MetricsError: figures that cannot be read.
    """
    workdirs = [make_absolute(run) for run in (a, b)]
    configuration = list_differences(*(read_experiment(workdir) for workdir in workdirs))
    rooms = [read_attempts(workdir) for workdir in workdirs]
    room = diff_environments(rooms[0][-1], rooms[1][-1]) if all(rooms) else []
    first, second = (group_metrics_by_step(run) for run in (a, b))
    common = sorted(first.keys() & second.keys())
    step, what = None, []
    for one in sorted(first.keys() | second.keys()):
        if one > max(common, default=-1):
            break  # one of them goes no further
        if lines := diff_metrics(first.get(one, []), second.get(one, [])):
            step, what = one, lines
            break
    compared = []
    for one in sorted(set(list_saved_steps(a)) & set(list_saved_steps(b))):
        if step is not None and one > step:
            break
        compared.append(one)
        if arrays := diff_states(f"{a}@{one}", f"{b}@{one}"):
            step, what = one, what + arrays if one == step else arrays
            break
    return RunComparison(step, what, configuration, room, len(common), compared)


def group_metrics_by_step(run: str) -> dict[float, list[tuple[str, float]]]:
    """By step, what was measured of the network, in the order of the rows."""
    found: dict[float, list[tuple[str, float]]] = {}
    if not (make_absolute(run) / "metrics.jsonl").exists():
        return found
    for row in read_metrics(make_absolute(run)):
        found.setdefault(row["step"], []).extend(
            (name, row[name]) for name in row if name.startswith(("train/", "val/"))
        )
    return found


def diff_metrics(a: list[tuple[str, float]], b: list[tuple[str, float]]) -> list[str]:
    """What differs between the figures of one step; a row that was written twice does."""
    one, other = dict(a), dict(b)
    names = [
        name
        for name in sorted(one.keys() | other.keys())
        if repr(one.get(name)) != repr(other.get(name))
    ]
    lines = [
        f"{name}: {one.get(name, 'nothing')} and {other.get(name, 'nothing')}" for name in names
    ]
    return truncate_lines(lines) or ([f"{len(a)} figures and {len(b)}"] if len(a) != len(b) else [])


def diff_states(a: str, b: str) -> list[str]:
    """The arrays of two states that differ, and by how much."""
    one, other = (
        {
            name: np.asarray(leaf)
            for name, leaf in named_arrays(open_run(run, with_optimizer=True).state)
        }
        for run in (a, b)
    )
    found = [f"{name} is in one of them only" for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        if one[name].shape != other[name].shape:
            found.append(f"{name}: {one[name].shape} and {other[name].shape}")
        elif one[name].tobytes() != other[name].tobytes():
            found.append(
                f"{name}: by at most {np.abs(np.float64(one[name]) - np.float64(other[name])).max():.3g}"
            )
    return truncate_lines(found)


def truncate_lines(lines: list[str]) -> list[str]:
    return lines[:MAX_LINES] + (
        [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    )
