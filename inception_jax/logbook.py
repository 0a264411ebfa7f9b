"""What a run tells: `metrics.jsonl` is the truth; the terminal and TensorBoard mirror it."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import inf, nan
from typing import Any, TypeVar

from etils import epath
from tqdm import tqdm

from inception_jax.errors import ExitCode, UserError, message
from inception_jax.files import append, is_object, json_text, put
from inception_jax.observers import Observer

Item = TypeVar("Item")


class MetricsError(UserError, ValueError):
    """A `metrics.jsonl` that is not as it was written."""

    exit_code = ExitCode.DATA


# The speed is that of the figures beside it, and tqdm's own is not shown. Ten cells: a bar that takes what the figures leave has one at 80
# columns, and tqdm cuts the figures at the end of the line.
BAR = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} {elapsed}{postfix}"


def postfix(shown: Mapping[str, str]) -> str:
    """Returns figures for the bar, in 80 columns beside it: what is most looked for first."""
    first = [name for name in ("img/s", "loss", "left") if name in shown]
    return ", ".join(f"{name}={shown[name]}" for name in [*first, *(name for name in shown if name not in first)])


class Logbook(Observer):
    """Writes the metrics of a run and shows its progress: a bar on a terminal, plain lines elsewhere.

    Args:
      start: the step that the run goes on from; what `metrics.jsonl` holds beyond it is cut away, since it will be made again.
      unscored: whether the evaluation of `start` was broken off, and will be made again too.
      leads: whether this process writes and speaks at all.
      compiling: a line that is said before the first step.
    """

    def __init__(self, workdir: epath.Path, *, start: int, steps: int, unscored: bool = False, leads: bool = True, compiling: str = ""):
        self._path, self._leads, self._steps = workdir / "metrics.jsonl", leads, steps
        self._object = is_object(self._path)
        self._lines: list[str] = []  # all of them, where none can be appended
        self._unsent, self._compiling, self._first = False, compiling, ExitStack()
        self._began, self._start = time.monotonic(), start
        if not leads:
            return
        self._cut(start, unscored)
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, bar_format=BAR) if terminal else None

    def _cut(self, start: int, unscored: bool) -> None:
        if not self._path.exists():
            return
        rows = [row for row in read_metrics(self._path.parent) if row["step"] <= start]
        lines = [json_text(row) for row in rows if not (unscored and row["step"] == start and "val/top1" in row)]
        self._put(lines)
        if self._object:
            self._lines = lines

    def _put(self, lines: Sequence[str]) -> None:
        put(self._path, "".join(line + "\n" for line in lines))

    def send(self) -> None:
        """Sends the metrics to an object store, whole, since no line can be appended there: to be called with each checkpoint."""
        if self._unsent:
            self._put(self._lines)
            self._unsent = False

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records `metrics` of the step just made, and shows those of training."""
        if not self._leads:
            return
        row = json_text({"step": step, **{name: float(f"{value:.8g}") for name, value in metrics.items()}})
        if self._object:
            self._lines.append(row)
            self._unsent = True
        else:
            append(self._path, row)
        if "val/top1" in metrics:
            self.send()
        if shown := progress(metrics):
            self.advance(step, shown)

    def before_step(self, step: int) -> None:
        if step == self._start + 1 and self._compiling:
            self.say(self._compiling)
            self._began = time.monotonic()
            self._first.enter_context(self.ticking())

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        if self._compiling:
            self._first.close()
            self.say(f"compiled, and made the first step, in {duration(time.monotonic() - self._began)}")
            self._compiling = ""
            self.begin(step)
        self.advance(step)

    def advance(self, step: int, shown: Mapping[str, str] | None = None) -> None:
        """Moves the bar to `step`; with `shown`, prints those figures and the time left."""
        if not self._leads:
            return
        left = (time.monotonic() - self._began) / max(step - self._start, 1) * (self._steps - step)
        if self._bar is not None:
            if shown:
                self._bar.set_postfix_str(postfix({**shown, "left": duration(left)}), refresh=False)
            self._bar.update(step - self._bar.n)
        elif shown:
            figures = " ".join(f"{name} {value}" for name, value in shown.items())
            self.say(f"step {step}/{self._steps} {step / self._steps:.0%} {figures} left {duration(left)}")

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Has the bar show each second of what goes on in the body, which is one long call, as compiling is."""
        if not self._leads or self._bar is None:
            yield
            return
        bar, over = self._bar, threading.Event()

        def tick() -> None:
            while not over.wait(1):
                bar.refresh()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def begin(self, step: int) -> None:
        """Starts the clock of the time left: what came before was compiling."""
        self._began, self._start = time.monotonic(), step

    def say(self, text: str) -> None:
        """A line to the reader."""
        if self._leads:
            say(text)

    def close(self) -> None:
        if not self._leads:
            return
        self.send()
        self._first.close()
        if self._bar is not None:
            self._bar.close()


def progress(metrics: Mapping[str, float]) -> dict[str, str]:
    """Returns the metrics that a line of progress shows; none where they hold no speed."""
    if "perf/images_per_second" not in metrics:
        return {}
    found = {"epoch": f"{metrics['train/epoch']:.1f}"}
    if "train/loss" in metrics:
        found |= {"loss": f"{metrics['train/loss']:.4f}", "top1": f"{metrics['train/top1']:.3f}"}
    if "train/not_finite" in metrics:
        found |= {"steps skipped": f"{metrics['train/not_finite']:.0f}"}
    if metrics.get("train/skipped"):
        found |= {"images skipped": f"{metrics['train/skipped']:.0f}"}
    return found | {"img/s": f"{metrics['perf/images_per_second']:.0f}"}


def say(text: str) -> None:
    """Prints a line on standard error, above the bar where one is shown: standard output is for results."""
    try:
        tqdm.write(message(text), file=sys.stderr)
        sys.stderr.flush()
    except OSError:  # nobody reads it any more, or its disk is full, which is no reason to end a run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def quiet(text: str) -> None:
    """Says nothing, in the place of `say`."""


def tracked(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yields `items`, with a bar on a terminal, and elsewhere a line every ten seconds; both on standard error."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, dynamic_ncols=True)
        return
    began = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last > 10:
            last = now
            say(f"{what}: {done:,} of {len(items):,}, {duration((now - began) / done * (len(items) - done))} left")
        yield item


def duration(seconds: float) -> str:
    """`1h02m`, `3m20s`, `12s`."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


def read_metrics(workdir: Any) -> list[dict[str, float]]:
    """The rows of `metrics.jsonl`, NaN for figures that are null. A last line that is still being written, or was when its run was killed,
    is left out.

    Raises:
      MetricsError: another line that cannot be read.
    """
    file, rows = epath.Path(workdir) / "metrics.jsonl", []
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            told = f"{line.strip()[:60].decode(errors='replace')!r} ({error})"
            raise MetricsError(f"{file}, line {number} cannot be read: {told}; take it out, or the run again") from error
    return rows


def _row(line: bytes) -> dict[str, float]:
    row = json.loads(line)
    if isinstance(row, dict):
        row = {name: nan if value is None else value for name, value in row.items()}
    sane = isinstance(row, dict) and all(isinstance(value, int | float) and not 1e100 <= abs(value) < inf for value in row.values())
    if not sane or not 0 <= row.get("step", -1) < inf:
        raise ValueError("it must be an object of numbers, with a step among them")
    for name, value in row.items():
        kind = name.rpartition("/")[2]
        if kind in ("top1", "top5") and not (0 <= value <= 1 or value != value):
            raise ValueError(f"{name} is a fraction, from 0 to 1")
        if kind == "count" and not (value >= 1 or value == 0):
            raise ValueError(f"{name} is a number of examples")
    return row
