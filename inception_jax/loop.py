"""fit(): resume, step, log, evaluate, save."""

import time
from collections.abc import Callable, Iterator

from etils import epath

from inception_jax.checkpoint import Checkpoints
from inception_jax.confidence import within
from inception_jax.data.stopwatch import input_bound
from inception_jax.evaluation.scoring import evaluate, means, totals
from inception_jax.experiment import Run
from inception_jax.logbook import Logbook, duration, say
from inception_jax.training.state import State

INPUT_BOUND = 0.2
"""The fraction of the time spent waiting for data from which on a run is told of it."""


class DivergedError(ArithmeticError):
    """The loss or the gradient is no longer finite; running on, or again, will not help."""

    exit_code = 70


def resume(run: Run, checkpoints: Checkpoints) -> State | None:
    """The newest finished state of this run, if there is one."""
    steps = checkpoints.steps()
    return checkpoints.restore(steps[-1], run.abstract_state()) if steps else None


def finished(run: Run, workdir: epath.Path) -> int | None:
    """The step at which this run ended, if it has made all of its steps."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
    steps = checkpoints.steps()
    checkpoints.close()
    return steps[-1] if steps and steps[-1] >= run.steps else None


def fit(run: Run, workdir: epath.Path, *, initial: Callable[[], State] | None = None) -> tuple[State, dict[str, float]]:
    """Trains `run` to its last step, going on from the newest checkpoint in `workdir`, and scores it.

    Args:
      initial: makes the state to begin from, where there is no checkpoint, instead of the run's own.

    Returns:
      The last state, and its evaluation: `loss`, `top1`, `top5`, `count`.

    Raises:
      DivergedError: the numbers became NaN or infinite. The newest checkpoint is from before that.
    """
    config, leads = run.config, run.placement.leads
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints, leads=leads)
    state = resume(run, checkpoints)
    start = int(state.step) if state is not None else 0
    if start:
        say(f"going on from step {start} of {run.steps}")
    if state is None:
        state = (initial or run.initial_state)()
    log = Logbook(workdir, start=start, steps=run.steps, leads=leads)
    results: dict[str, float] = {}
    try:
        for step, reached, metrics in training(run, state, start, log):
            state = reached
            log.write(step, metrics)
            if due(step, run, config.evaluate_every_epochs):
                results = score(run, state)
                log.write(step, {f"val/{name}": value for name, value in results.items() if name != "skipped" or run.may_skip})
                log.say(f"step {step}/{run.steps} held out: top-1 {within(results['top1'], results['count'])}, loss {results['loss']:.4f}")
            if due(step, run, config.checkpoint_every_epochs):
                checkpoints.save(step, state)
    finally:
        log.close()
        checkpoints.close()
    return state, results or score(run, state)


def due(step: int, run: Run, every_epochs: float) -> bool:
    """Whether something done `every_epochs` is done after this step; it always is after the last."""
    if step == run.steps or not every_epochs:
        return step == run.steps
    cadence = every_epochs * run.steps_per_epoch
    return cadence < 1 or round(round(step / cadence) * cadence) == step


def score(run: Run, state: State) -> dict[str, float]:
    examples = len(run.test_source)
    return evaluate(run.eval_step, state.variables, run.test_batches(), examples=examples, may_skip=run.may_skip)


def training(run: Run, state: State, start: int, log: Logbook) -> Iterator[tuple[int, State, dict[str, float]]]:
    """Steps the run and yields (step, state, metrics) wherever something is due: figures to log, a score, a save."""
    config, pending = run.config, []
    seconds = waited = 0.0
    warned = False
    log.say(f"compiling the training step for {run.placement.devices} device(s): about {duration(compile_seconds(run))}")
    batches = run.train_batches(start)
    clock = time.monotonic()
    for step in range(start + 1, run.steps + 1):
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        state, sums = run.train_step(state, batch)
        pending.append(sums)
        first = step == start + 1
        stop = due(step, run, config.evaluate_every_epochs) or due(step, run, config.checkpoint_every_epochs)
        if not (first or stop or step % config.log_every_steps == 0):
            log.advance(step)
            continue
        total = totals(pending)  # waits for the accelerator
        seconds = time.monotonic() - clock
        if total.pop("skipped"):
            raise DivergedError(
                f"the loss or gradient became NaN or infinite within the {len(pending)} steps before step {step}: lower "
                f"optimizer.learning_rate ({config.optimizer.learning_rate}) or set optimizer.clip_norm"
            )
        rate = total["count"] / seconds
        metrics = {f"train/{name}": value for name, value in means(total).items()}
        if run.may_skip:
            metrics["train/skipped"] = config.batch_size * len(pending) - total["count"]
        metrics |= {"train/epoch": step / run.steps_per_epoch, "train/learning_rate": float(run.schedule(step - 1))}
        if first:
            log.say(f"compiled, and made the first step, in {duration(seconds)}")
            log.begin(step)
        else:
            metrics |= {
                "perf/images_per_second": rate,
                "perf/images_per_second_per_device": rate / run.placement.devices,
                "perf/data_wait_fraction": waited / seconds,
            }
            if waited > INPUT_BOUND * seconds and not warned:
                warned = True
                log.say(input_bound(waited / seconds, run.watch.read(), config.data.threads))
            log.advance(step, {"epoch": f"{metrics['train/epoch']:.1f}", "loss": f"{metrics['train/loss']:.4f}",
                               "top1": f"{metrics['train/top1']:.3f}", "img/s": f"{rate:.0f}"})  # fmt: skip
        yield step, state, metrics
        pending, waited, clock = [], 0.0, time.monotonic()


def compile_seconds(run: Run) -> float:
    """A guess: half a second for each word of the table, as measured on two CPU cores (38 s for the 75 of the digits network)."""
    return 0.5 * len(run.measured.rows)
