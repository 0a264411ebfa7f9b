"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from inception_jax.errors import format_message
from inception_jax.monitoring.observers import Observer

Item = TypeVar("Item")

# The speed shown is that of the metrics, not tqdm's own. The bar has ten cells: with tqdm's default
# it shrinks to one cell at 80 columns, and tqdm truncates the metrics.
BAR_FORMAT = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} {elapsed}{postfix}"


class ProgressBar(Observer):
    """Shows the progress of a run, with the newest training metrics and the time left.

    Args:
      start: The step from which the run resumes.
      steps: The last step of the run.
      compile_line: A line to print before the first step.
      is_primary: Whether this is the primary process; any other prints nothing.
    """

    def __init__(self, *, start: int, steps: int, compile_line: str = "", is_primary: bool = True):
        self._start, self._steps, self._is_primary = start, steps, is_primary
        self._compile_line, self._first_step = compile_line, ExitStack()
        self._began = time.monotonic()
        self._bar: tqdm[Any] | None = None
        if is_primary and sys.stderr.isatty():
            self._bar = tqdm(
                total=steps, initial=start, unit="step", dynamic_ncols=True, bar_format=BAR_FORMAT
            )

    def before_step(self, step: int) -> None:
        if step == self._start + 1 and self._compile_line:
            self._log_line(self._compile_line)
            self._began = time.monotonic()
            self._first_step.enter_context(self.refresh_every_second())

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        if self._compile_line:
            self._first_step.close()
            elapsed = format_duration(time.monotonic() - self._began)
            self._log_line(f"compiled, and made the first step, in {elapsed}")
            self._compile_line = ""
            self.restart_clock(step)
        self.advance(step)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if shown := select_metrics(metrics):
            self.advance(step, shown)

    def advance(self, step: int, shown: Mapping[str, str] | None = None) -> None:
        """Moves the bar to `step`; with `shown`, prints these metrics and the time left."""
        if not self._is_primary:
            return
        seconds_per_step = (time.monotonic() - self._began) / max(step - self._start, 1)
        left = format_duration(seconds_per_step * (self._steps - step))
        if self._bar is not None:
            if shown:
                self._bar.set_postfix_str(format_postfix({**shown, "left": left}), refresh=False)
            self._bar.update(step - self._bar.n)
        elif shown:
            metrics = " ".join(f"{name} {value}" for name, value in shown.items())
            done = f"step {step}/{self._steps} {step / self._steps:.0%}"
            self._log_line(f"{done} {metrics} left {left}")

    @contextmanager
    def refresh_every_second(self) -> Iterator[None]:
        """Refreshes the bar each second while the body runs, which is one long call (compiling)."""
        if self._bar is None:
            yield
            return
        bar, is_over = self._bar, threading.Event()

        def refresh() -> None:
            while not is_over.wait(1):
                bar.refresh()

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def restart_clock(self, step: int) -> None:
        """Restarts the clock behind the time left, so that it leaves out compiling."""
        self._began, self._start = time.monotonic(), step

    def _log_line(self, text: str) -> None:
        if self._is_primary:
            log_line(text)

    def close(self) -> None:
        self._first_step.close()
        if self._bar is not None:
            self._bar.close()


def format_postfix(shown: Mapping[str, str]) -> str:
    """Returns metrics as the text after the bar: speed, loss and time left first."""
    first = [name for name in ("img/s", "loss", "left") if name in shown]
    names = [*first, *(name for name in shown if name not in first)]
    return ", ".join(f"{name}={shown[name]}" for name in names)


def select_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    """Returns the metrics that a progress line shows, formatted; none where they lack a speed."""
    if "perf/images_per_second" not in metrics:
        return {}
    shown = {"epoch": f"{metrics['train/epoch']:.1f}"}
    if "train/loss" in metrics:
        shown["loss"] = f"{metrics['train/loss']:.4f}"
        shown["top1"] = f"{metrics['train/top1']:.3f}"
    if "train/not_finite" in metrics:
        shown["steps skipped"] = f"{metrics['train/not_finite']:.0f}"
    if metrics.get("train/skipped"):
        shown["images skipped"] = f"{metrics['train/skipped']:.0f}"
    return shown | {"img/s": f"{metrics['perf/images_per_second']:.0f}"}


def log_line(text: str) -> None:
    """Prints a line on standard error, above the bar if one is shown.

    Standard output is for results. An error of the stream (closed pipe, full disk) does not end a
    run: later lines go to the null device.
    """
    try:
        tqdm.write(format_message(text), file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def discard_line(text: str) -> None:
    """Prints nothing: a replacement for `log_line`."""


def show_progress(items: Sequence[Item], label: str) -> Iterator[Item]:
    """Yields `items` and shows how many are done: a bar, or a line every ten seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, dynamic_ncols=True)
        return
    began = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last > 10:
            last = now
            left = format_duration((now - began) / done * (len(items) - done))
            log_line(f"{label}: {done:,} of {len(items):,}, {left} left")
        yield item


def format_duration(seconds: float) -> str:
    """Returns a duration as `1h02m`, `3m20s` or `12s`."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"
