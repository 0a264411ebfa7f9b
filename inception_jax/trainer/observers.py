"""The observers of one run."""

from collections.abc import Mapping
from contextlib import suppress

from etils import epath

from inception_jax.atomic_io import is_object_store
from inception_jax.data.stage_timer import format_input_bound
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import MetricsLog
from inception_jax.monitoring.observers import Observer, Observers
from inception_jax.monitoring.profiler import Profiler
from inception_jax.monitoring.progress import (
    ProgressBar,
    discard_line,
    format_duration,
    log_line,
)
from inception_jax.monitoring.stall_watch import StallWatch
from inception_jax.spec.vocabulary import Concat, Residual, Word, iterate_words

MAX_DATA_WAIT_FRACTION = 0.2
"""A run that waits for data for a larger fraction of its time gets a warning."""


def make_observers(run: Run, workdir: epath.Path, log: MetricsLog, start: int) -> Observers:
    """Returns `log` and every other observer of `run`, which resumes from step `start`."""
    is_primary = run.placement.is_primary
    compile_line = format_compile_line(run)
    return Observers(
        log,
        ProgressBar(start=start, steps=run.steps, compile_line=compile_line, is_primary=is_primary),
        *make_tensorboard_writers(workdir, start, is_primary),
        StallWatch(run.config.log_every_steps),
        Profiler(run.config.profile_span, workdir, log_line if is_primary else discard_line),
        InputMonitor(run),
    )


def format_compile_line(run: Run) -> str:
    """Returns the line to print before the first step, with an estimate of the compile time.

    Note: 0.5 s for each word of the table, measured on two CPU cores (38 s for the 75 words of the
    digits network).
    """
    layers = run.network.architecture.layers
    words = [word for _, steps in layers for word in iterate_words(steps) if isinstance(word, Word)]
    seconds = 0.5 * sum(not isinstance(word, Concat | Residual) for word in words)
    split = ""
    if run.num_microbatches > 1:
        split = (
            f", a batch in {run.num_microbatches} microbatches, batch norm over "
            f"{run.config.norm.examples_per_group} examples as in one"
        )
    devices, duration = run.placement.devices, format_duration(seconds)
    return f"compiling the training step for {devices} device(s){split}: about {duration}"


def make_tensorboard_writers(workdir: epath.Path, start: int, is_primary: bool) -> list[Observer]:
    """Returns a TensorBoard writer, or none.

    None without tensorboardX (the extra `report`), in an object store, and in other processes than
    the primary one.
    """
    if not is_primary or is_object_store(workdir):
        return []
    with suppress(ImportError):
        from inception_jax.monitoring.tensorboard import TensorBoardWriter

        return [TensorBoardWriter(workdir / "tensorboard", start=start)]
    return []


class InputMonitor(Observer):
    """Warns once about a run that waits for data for more than `MAX_DATA_WAIT_FRACTION`."""

    def __init__(self, run: Run):
        self._run, self._has_warned = run, not run.placement.is_primary

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        fraction = metrics.get("perf/data_wait_fraction", 0)
        if fraction > MAX_DATA_WAIT_FRACTION and not self._has_warned:
            self._has_warned = True
            seconds, threads = self._run.stage_timer.read(), self._run.config.data.threads
            log_line(format_input_bound(fraction, seconds, threads))
