"""The steps of a run after which something is due, and whether it may end before its last one."""

from etils import epath

from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.monitoring.progress import log_line


def is_due(step: int, run: Run, every_epochs: float) -> bool:
    """Returns whether an action with the period `every_epochs` follows `step`.

    It always follows the last step, and no other if the period is 0.
    """
    if step == run.steps or not every_epochs:
        return step == run.steps
    period = every_epochs * run.steps_per_epoch
    return period < 1 or round(round(step / period) * period) == step


def has_stalled(run: Run, workdir: epath.Path, step: int) -> bool:
    """Returns whether the last `patience` evaluations up to `step` have not raised the top-1."""
    patience, is_stalled = run.config.patience, False
    if not patience or not is_due(step, run, run.config.evaluate_every_epochs):
        return False
    if run.placement.is_primary and (workdir / "metrics.jsonl").exists():
        rows = [row for row in read_metrics(workdir) if "val/top1" in row and row["step"] <= step]
        scores = [row["val/top1"] for row in rows]
        before, last = scores[:-patience], scores[-patience:]
        is_stalled = bool(before) and max(last) <= max(before)
        if is_stalled:
            log_line(f"no higher top-1 in {patience} evaluations: the run ends")
    return bool(run.placement.broadcast_from_primary(int(is_stalled)))
