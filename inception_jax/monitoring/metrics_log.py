"""The metrics of a run in `metrics.jsonl`, one JSON object a line."""

import json
from collections.abc import Mapping, Sequence
from math import inf, nan
from typing import Any

from etils import epath

from inception_jax.atomic_io import append_line, format_json, is_object_store, write_atomically
from inception_jax.errors import ExitCode, UserError
from inception_jax.monitoring.observers import Observer


class MetricsError(UserError, ValueError):
    """A `metrics.jsonl` whose contents are not those that were written."""

    exit_code = ExitCode.DATA


class MetricsLog(Observer):
    """Writes the metrics of a run to `workdir/metrics.jsonl`.

    Args:
      start: The step from which the run resumes. Later rows in the file are removed, because the
        run makes those steps again.
      is_unscored: Whether the evaluation of `start` was interrupted. Its row is removed too.
      is_primary: Whether this is the primary process; any other writes nothing.
    """

    def __init__(
        self, workdir: epath.Path, *, start: int, is_unscored: bool = False, is_primary: bool = True
    ):
        self._path, self._is_primary = workdir / "metrics.jsonl", is_primary
        self._is_object = is_object_store(self._path)
        self._lines: list[str] = []  # every line, for an object store, which cannot append
        self._is_pending = False
        if is_primary and self._path.exists():
            self._truncate(start, is_unscored)

    def _truncate(self, start: int, is_unscored: bool) -> None:
        rows = [row for row in read_metrics(self._path.parent) if row["step"] <= start]
        if is_unscored:
            rows = [row for row in rows if not (row["step"] == start and "val/top1" in row)]
        lines = [format_json(row) for row in rows]
        self._write_all(lines)
        if self._is_object:
            self._lines = lines

    def _write_all(self, lines: Sequence[str]) -> None:
        write_atomically(self._path, "".join(line + "\n" for line in lines))

    def flush(self) -> None:
        """Uploads the whole log where the workdir is in an object store.

        An object store cannot append a line. Called with each checkpoint and evaluation.
        """
        if self._is_pending:
            self._write_all(self._lines)
            self._is_pending = False

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one row with the metrics of `step`, in eight significant digits."""
        if not self._is_primary:
            return
        rounded = {name: float(f"{value:.8g}") for name, value in metrics.items()}
        row = format_json({"step": step, **rounded})
        if self._is_object:
            self._lines.append(row)
            self._is_pending = True
        else:
            append_line(self._path, row)
        if "val/top1" in metrics:
            self.flush()

    def close(self) -> None:
        self.flush()


def read_metrics(workdir: Any) -> list[dict[str, float]]:
    """Returns the rows of `metrics.jsonl`, with NaN for null.

    Leaves out an incomplete last line, which a running or killed process leaves behind.

    Raises:
      MetricsError: Another line cannot be read.
    """
    file, rows = epath.Path(workdir) / "metrics.jsonl", []
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_parse_row(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            excerpt = f"{line.strip()[:60].decode(errors='replace')!r} ({error})"
            raise MetricsError(
                f"{file}, line {number} cannot be read: {excerpt}; remove the line, or the run"
            ) from error
    return rows


def _parse_row(line: bytes) -> dict[str, float]:
    row = json.loads(line)
    if isinstance(row, dict):
        row = {name: nan if value is None else value for name, value in row.items()}
    is_valid = isinstance(row, dict) and all(
        isinstance(value, int | float) and not 1e100 <= abs(value) < inf for value in row.values()
    )
    if not is_valid or not 0 <= row.get("step", -1) < inf:
        raise ValueError("it must be an object of numbers, with a step among them")
    for name, value in row.items():
        kind = name.rpartition("/")[2]
        if kind in ("top1", "top5") and not (0 <= value <= 1 or value != value):
            raise ValueError(f"{name} is a fraction, from 0 to 1")
        if kind == "count" and not (value >= 1 or value == 0):
            raise ValueError(f"{name} is a number of examples")
    return row
