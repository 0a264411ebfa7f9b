"""The training loop: `fit` resumes, trains, logs, evaluates and saves."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import partial

import jax
from etils import epath

from inception_jax.checkpointing.checkpoints import CheckpointMetadata, Checkpoints, DamagedError
from inception_jax.data.source import DataError
from inception_jax.evaluation.confidence import format_with_interval
from inception_jax.evaluation.scoring import divide_by_count, score_batches
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import MetricsLog
from inception_jax.monitoring.observers import Observer
from inception_jax.monitoring.progress import log_line
from inception_jax.monitoring.wall_time import WallTime
from inception_jax.preemption import PreemptedError, PreemptionHandler
from inception_jax.trainer.divergence import explain_divergence
from inception_jax.trainer.metric_accumulator import MetricAccumulator
from inception_jax.trainer.milestones import has_stalled, is_due
from inception_jax.trainer.observers import make_observers
from inception_jax.training.state import State


def find_completed_step(run: Run, workdir: epath.Path) -> int | None:
    """Returns the last step of a complete run.

    Returns None while steps, the final evaluation or the data of the report are missing, and where
    the last checkpoint is damaged: `fit` then makes its steps again.
    """
    directory = workdir / "checkpoints"
    checkpoints = Checkpoints(directory, keep=run.config.keep_checkpoints, is_primary=False)
    if not (steps := checkpoints.steps()):
        return None
    if steps[-1] < run.steps and not has_stalled(run, workdir, steps[-1]):
        return None
    try:
        checkpoints.verify(steps[-1])
        return steps[-1] if checkpoints.read_metadata(steps[-1]).is_complete else None
    except DamagedError:
        return None


def fit(
    run: Run,
    workdir: epath.Path,
    *,
    make_initial_state: Callable[[], State] | None = None,
    preemption: PreemptionHandler | None = None,
    finish: Callable[[State], object] | None = None,
) -> tuple[State, dict[str, float]]:
    """Trains `run` to its last step, from the newest intact checkpoint in `workdir`.

    A signal stops the run between two steps: the state is saved, and the next call resumes with the
    same bits.

    Args:
      make_initial_state: Makes the first state if there is no checkpoint; default: the run's own.
      preemption: A handler that is already installed; default: a new one.
      finish: Called with the last state, saved and evaluated, before the run counts as complete.

    Returns:
      The last state, and its evaluation: `loss`, `top1`, `top5`, `count`.

    Raises:
      DivergedError: The loss or gradient became NaN or infinite. The newest checkpoint is older.
      PreemptedError: A signal asked the run to stop; its state is saved.
      DataError: An example cannot be read. The state until then is saved.
      DamagedError: No checkpoint of the run is intact, and `from_scratch` is off.
      StorageError: A checkpoint could not be written; older ones are unchanged.
    """
    if preemption is None:
        with PreemptionHandler() as handler:
            return fit(
                run,
                workdir,
                make_initial_state=make_initial_state,
                preemption=handler,
                finish=finish,
            )
    config, is_primary, wall_time = run.config, run.placement.is_primary, WallTime()
    checkpoints = Checkpoints(
        workdir / "checkpoints",
        keep=config.keep_checkpoints,
        keep_best=config.keep_best,
        is_primary=is_primary,
    )
    start, state, metadata = restore_or_initialize(run, checkpoints, make_initial_state)
    accumulator = MetricAccumulator(
        metadata.sums,
        stop_on_not_finite=config.on_not_finite == "stop",
        max_consecutive_skipped=config.max_consecutive_skipped,
    )
    step, is_unscored, results = start, metadata.is_unscored, dict[str, float]()
    log = MetricsLog(workdir, start=start, is_unscored=is_unscored, is_primary=is_primary)
    observers = make_observers(run, workdir, log, start)
    should_end = partial(has_stalled, run, workdir)
    steps = run_steps(run, state, start, accumulator, wall_time, observers, should_end)
    with closing(observers), closing(checkpoints), explain_divergence(run, workdir), closing(steps):
        try:
            if is_unscored:
                results = evaluate_and_log(run, start, state, observers, preemption, wall_time)
                scored = CheckpointMetadata(metadata.sums, score=results["top1"])
                checkpoints.update_metadata(start, scored)
            for step, state in steps:
                preemption.set_unsaved(True)
                is_unscored = is_due(step, run, config.evaluate_every_epochs)
                is_saved = is_due(step, run, config.checkpoint_every_epochs)
                is_saved |= is_unscored and config.patience > 0  # the run may end here
                if is_saved:  # before the evaluation, so that a failure there loses nothing
                    log.flush()
                    metadata = CheckpointMetadata(is_unscored=is_unscored)
                    checkpoints.save(step, state, metadata=metadata)
                    wall_time.record("save")
                if is_unscored:
                    results = evaluate_and_log(run, step, state, observers, preemption, wall_time)
                    if is_saved:
                        scored = CheckpointMetadata(score=results["top1"])
                        checkpoints.update_metadata(step, scored)
                        wall_time.record("save")
                is_unscored = False
                checkpoints.raise_if_failed()
                preemption.raise_if_requested()
        except (PreemptedError, DataError) as error:
            # A save is collective: after a DataError of one process alone, the others would wait.
            can_save = isinstance(error, PreemptedError) or jax.process_count() == 1
            if can_save and step not in (start, checkpoints.last_saved_step):
                log.flush()
                metadata = CheckpointMetadata(accumulator.compute(), is_unscored=is_unscored)
                checkpoints.save(step, state, metadata=metadata)
            raise
    wall_time.record("save")  # closing waits for the last save
    preemption.set_unsaved(False)
    preemption.raise_if_requested()
    if is_primary and step > start:
        log_line(f"the wall time went into: {wall_time.format_summary()}")
    results = results or evaluate_state(run, state, preemption)
    if finish:
        finish(state)
    complete = CheckpointMetadata(score=results["top1"], is_complete=True)
    checkpoints.update_metadata(step, complete)
    return state, results


def restore_or_initialize(
    run: Run, checkpoints: Checkpoints, make_initial_state: Callable[[], State] | None
) -> tuple[int, State, CheckpointMetadata]:
    """Returns the step to resume from (0 for a new run), its state and its metadata."""
    start = 0
    if run.placement.is_primary:
        from_scratch = run.config.from_scratch
        start = checkpoints.latest_intact_step(log_line, from_scratch=from_scratch) or 0
    start = run.placement.broadcast_from_primary(start)
    if not start:
        state = run.placement.arrange_state((make_initial_state or run.initial_state)())
        return 0, state, CheckpointMetadata()
    state = run.placement.arrange_state(checkpoints.restore(start, run.abstract_state()))
    if run.placement.is_primary:
        log_line(f"going on from step {start} of {run.steps}")
    return start, state, checkpoints.read_metadata(start)


def evaluate_and_log(
    run: Run,
    step: int,
    state: State,
    observers: Observer,
    preemption: PreemptionHandler,
    wall_time: WallTime,
) -> dict[str, float]:
    """Evaluates the state after `step` and passes the results to the observers."""
    results = evaluate_state(run, state, preemption)
    wall_time.record("evaluation")
    names = [name for name in results if name != "skipped" or run.may_skip]
    metrics = {f"val/{name}": results[name] for name in names}
    observers.write(step, metrics | wall_time.collect_metrics())
    if run.placement.is_primary:
        accuracy = format_with_interval(results["top1"], results["count"])
        log_line(f"step {step}/{run.steps} held out: top-1 {accuracy}, loss {results['loss']:.4f}")
    return results


def evaluate_state(run: Run, state: State, preemption: PreemptionHandler) -> dict[str, float]:
    """Returns the metrics of `state` over all held-out examples."""
    return score_batches(
        run.eval_step,
        state.variables,
        preemption.check_between(run.test_batches()),
        examples=len(run.test_source),
        may_skip=run.may_skip,
    )


def run_steps(
    run: Run,
    state: State,
    start: int,
    accumulator: MetricAccumulator,
    wall_time: WallTime,
    observers: Observer,
    should_end: Callable[[int], bool] = lambda step: False,
) -> Generator[tuple[int, State]]:
    """Makes the steps of a run after `start`, and yields (step, state) after each.

    Ends after a step for which `should_end` is true.

    Writes metrics to `observers` every `log_every_steps`, and where an evaluation or checkpoint is
    due. The first step includes compiling, and counts towards no throughput.

    Raises:
      NotFiniteError: The loss or gradient of a step was not finite.
    """
    periods = run.config.evaluate_every_epochs, run.config.checkpoint_every_epochs
    batches, since, seconds_before = run.train_batches(start), start, wall_time.training_seconds()
    for step in range(start + 1, run.steps + 1):
        if should_end(step - 1):
            return
        is_first = step == start + 1
        batch = next(batches)
        waited = "input" if accumulator.is_device_idle else "step"
        wall_time.record("restart" if is_first else waited)
        observers.before_step(step)
        state, sums = run.train_step(state, batch)
        accumulator.add(step, sums)
        if is_first:
            jax.block_until_ready(sums)
            _ = float(run.schedule(step - 1))  # compiles here, not when metrics are due
            wall_time.record("compile")
            since, seconds_before = step, wall_time.training_seconds()
        observers.after_step(step, sums)
        is_logged = step == 1 or step % run.config.log_every_steps == 0
        if is_logged or any(is_due(step, run, period) for period in periods):
            total = accumulator.compute_and_reset()  # waits for the accelerator
            wall_time.record("step")
            now = wall_time.training_seconds()
            seconds = {kind: now[kind] - seconds_before[kind] for kind in now}
            throughput = compute_throughput(run, step - since, seconds)
            since, seconds_before = step, now
            metrics = make_training_metrics(run, step, total)
            observers.write(step, metrics | throughput | wall_time.collect_metrics())
            wall_time.record("log")
        else:
            wall_time.record("step")
        yield step, state


def compute_throughput(run: Run, steps: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns the throughput of so many steps, as metrics in images per second of wall time.

    Args:
      seconds: The wall time of these steps, by kind; `input` is the wait for data.
    """
    if not steps:
        return {}
    total = sum(seconds.values())
    images_per_second = run.config.batch_size * steps / total
    return {
        "perf/images_per_second": images_per_second,
        "perf/images_per_second_per_device": images_per_second / run.placement.devices,
        "perf/data_wait_fraction": seconds["input"] / total,
    }


def make_training_metrics(run: Run, step: int, total: dict[str, float]) -> dict[str, float]:
    """Returns the metrics of the steps up to `step`, from their summed metrics.

    Means are left out where no step was finite.
    """
    steps, not_finite = total.pop("steps", 0.0), total.pop("not_finite", 0.0)
    metrics = {}
    if steps:
        metrics = {f"train/{name}": mean for name, mean in divide_by_count(total).items()}
    if run.may_skip and steps:
        metrics["train/skipped"] = run.config.batch_size * steps - total["count"]
    if not_finite:
        metrics["train/not_finite"] = not_finite
    metrics["train/epoch"] = step / run.steps_per_epoch
    metrics["train/learning_rate"] = float(run.schedule(step - 1))
    return metrics
