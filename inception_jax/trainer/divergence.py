"""The report on a run whose loss or gradient became NaN or infinite."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from etils import epath

from inception_jax.atomic_io import format_json, write_atomically
from inception_jax.data import order
from inception_jax.errors import ExitCode, UserError
from inception_jax.experiment import Run
from inception_jax.trainer.metric_accumulator import NotFiniteError


class DivergedError(UserError, ArithmeticError):
    """A loss or gradient that is no longer finite; neither running on nor a restart helps."""

    exit_code = ExitCode.NOT_FINITE
    is_collective = True
    """All processes of a run raise it at the same step."""


@contextmanager
def explain_divergence(run: Run, workdir: epath.Path) -> Iterator[None]:
    """Turns a `NotFiniteError` of the body into a `DivergedError` with a remedy.

    Raises:
      DivergedError: The loss or gradient of a step was not finite.
    """
    try:
        yield
    except NotFiniteError as error:
        message = report_divergence(run, error.step, workdir, consecutive=error.consecutive)
        raise DivergedError(message) from error


def report_divergence(run: Run, step: int, workdir: epath.Path, *, consecutive: int = 1) -> str:
    """Writes the batch of `step` into `workdir/diverged.json` and returns a message with a remedy.

    `examples` are the ids of the batch in order, `positions` their places in the stream: the seed
    and the position give the key that augments an example.

    Args:
      consecutive: The number of steps in a row that were not finite, `step` being the last.
    """
    size, config = run.config.batch_size, run.config
    positions = np.arange((step - 1) * size, step * size)
    stream = order.make_shuffled_order(
        len(run.train_source), config.seed, config.data.shuffle_block
    )
    file = workdir / "diverged.json"
    if run.placement.is_primary:
        batch = {"positions": positions.tolist(), "examples": stream(positions).tolist()}
        write_atomically(file, format_json({"step": step, "seed": config.seed, **batch}) + "\n")
    repeated, skip = "", ""
    if consecutive > 1:
        repeated = (
            f", the last of {consecutive} such steps in a row (limit: max_consecutive_skipped)"
        )
    if config.on_not_finite == "stop":
        skip = ", or skip such steps: --on-not-finite skip_and_count"
    return (
        f"the loss or gradient of step {step} was NaN or infinite{repeated}; its examples are in "
        f"{file}. `inception-jax replay {workdir} {step}` finds the layer. Lower "
        f"optimizer.learning_rate ({config.optimizer.learning_rate}), set optimizer.clip_norm{skip}"
    )
