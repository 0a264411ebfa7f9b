"""fit(): resume, step, log, evaluate, save."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from typing import NamedTuple

import jax
from etils import epath

from inception_jax import confidence
from inception_jax.checkpoint import SCORE, Checkpoints, DamagedError
from inception_jax.data.source import DataError
from inception_jax.data.stopwatch import input_bound
from inception_jax.evaluation.scoring import evaluate, means
from inception_jax.experiment import Run
from inception_jax.interruption import Interruption, PreemptedError
from inception_jax.logbook import Logbook, duration, say
from inception_jax.replay import DivergedError, suspect
from inception_jax.spec.vocabulary import Concat, Residual, Word, within
from inception_jax.tally import NotFiniteError, Tally
from inception_jax.timesheet import Timesheet
from inception_jax.trace import Trace
from inception_jax.training.state import State
from inception_jax.watchdog import Watchdog

INPUT_BOUND = 0.2
"""The fraction of the time spent waiting for data from which on a run is told of it."""
UNSCORED = "unscored"
"""Noted of a checkpoint whose evaluation was due, and was broken off."""


def finished(run: Run, workdir: epath.Path) -> int | None:
    """The step at which this run ended, if it has made all of its steps and was scored."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
    if not (steps := checkpoints.steps()) or steps[-1] < run.steps:
        return None
    try:
        checkpoints.verify(steps[-1])
        return None if UNSCORED in checkpoints.note(steps[-1]) else steps[-1]
    except DamagedError:
        return None  # fit sets it aside, and makes it again


def fit(
    run: Run, workdir: epath.Path, *, initial: Callable[[], State] | None = None, interruption: Interruption | None = None
) -> tuple[State, dict[str, float]]:
    """Trains `run` to its last step, going on from the newest sound checkpoint in `workdir`, and scores it.

    A signal stops it wherever it is: what it has is saved, and the next call goes on to the same bits.

    Args:
      initial: makes the state to begin from, where there is no checkpoint, instead of the run's own.
      interruption: one that listens already.

    Returns:
      The last state, and its evaluation: `loss`, `top1`, `top5`, `count`.

    Raises:
      DivergedError: the numbers became NaN or infinite. The newest checkpoint is from before that.
      PreemptedError: it was told to stop, and has saved.
      DataError: an example that cannot be read. What was learned until there is saved.
      DamagedError: not one of the run's checkpoints is intact, and `from_scratch` is not set.
      StorageError: a checkpoint could not be written; the ones before are as they were.
    """
    if interruption is None:
        with Interruption() as listening:
            return fit(run, workdir, initial=initial, interruption=listening)
    config, leads, sheet = run.config, run.placement.leads, Timesheet()
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints, keep_best=config.keep_best, leads=leads)
    start = run.placement.agreed(checkpoints.sound(say, from_scratch=config.from_scratch) or 0 if leads else 0)
    state = checkpoints.restore(start, run.abstract_state()) if start else (initial or run.initial_state)()
    note = checkpoints.note(start) if start else {}
    unscored = bool(note.pop(UNSCORED, False))
    note.pop(SCORE, None)
    if "objective" not in note:  # sums of before both were kept, whose `loss` was the objective
        note = {}
    if start and leads:
        say(f"going on from step {start} of {run.steps}")
    tally = Tally(note, stops=config.on_not_finite == "stop", most_skipped=config.max_consecutive_skipped)
    step, results = start, dict[str, float]()
    logbook = Logbook(workdir, start=start, steps=run.steps, unscored=unscored, leads=leads)

    with closing(logbook) as log, closing(checkpoints), suspected(run, workdir), ExitStack() as stack:
        try:
            if unscored:
                results = evaluated(run, start, state, log, interruption, sheet)
                checkpoints.amend(start, {**note, SCORE: results["top1"]})
            made = stack.enter_context(closing(training(run, state, start, tally, log, interruption, sheet, workdir)))
            for step, state, metrics, is_due in made:
                if metrics:
                    log.write(step, metrics)
                    sheet.book("log")
                unscored = is_due.evaluation
                if is_due.checkpoint:  # before it is scored: what cannot be scored is not lost
                    log.send()
                    checkpoints.save(step, state, note={UNSCORED: 1.0} if unscored else {})
                    sheet.book("save")
                if unscored:
                    results = evaluated(run, step, state, log, interruption, sheet)
                    if is_due.checkpoint:
                        checkpoints.amend(step, {SCORE: results["top1"]})
                        sheet.book("save")
                unscored = False
                checkpoints.check()
                interruption.look()
        except (PreemptedError, DataError) as error:
            alone = isinstance(error, PreemptedError) or jax.process_count() == 1  # to save is done by all processes, or not at all
            if alone and step not in (start, checkpoints.last):
                kept = tally.total()
                log.send()
                checkpoints.save(step, state, note={**kept, **({UNSCORED: 1.0} if unscored else {})})
            raise
    sheet.book("save")  # closing waits for the last one
    interruption.hold(False)
    interruption.look()
    if leads and step > start:
        say(f"the wall time went into: {sheet.summary()}")
    return state, results or score(run, state, interruption)


@contextmanager
def suspected(run: Run, workdir: epath.Path) -> Iterator[None]:
    """Tells of a step that was not finite what a reader can do about it."""
    try:
        yield
    except NotFiniteError as error:
        raise DivergedError(suspect(run, error.step, workdir, in_a_row=error.in_a_row)) from error


class Due(NamedTuple):
    """What is done after a step."""

    evaluation: bool
    checkpoint: bool


def due(step: int, run: Run, every_epochs: float) -> bool:
    """Whether something done `every_epochs` is done after this step; it always is after the last."""
    if step == run.steps or not every_epochs:
        return step == run.steps
    cadence = every_epochs * run.steps_per_epoch
    return cadence < 1 or round(round(step / cadence) * cadence) == step


def evaluated(run: Run, step: int, state: State, log: Logbook, interruption: Interruption, sheet: Timesheet) -> dict[str, float]:
    """Scores the state after `step`, and logs it."""
    results = score(run, state, interruption)
    sheet.book("evaluation")
    shown = {f"val/{name}": value for name, value in results.items() if name != "skipped" or run.may_skip}
    log.write(step, shown | sheet.take())
    log.say(f"step {step}/{run.steps} held out: top-1 {confidence.within(results['top1'], results['count'])}, loss {results['loss']:.4f}")
    log.send()
    return results


def score(run: Run, state: State, interruption: Interruption) -> dict[str, float]:
    batches = interruption.watched(run.test_batches())
    return evaluate(run.eval_step, state.variables, batches, examples=len(run.test_source), may_skip=run.may_skip)


def training(
    run: Run, state: State, start: int, tally: Tally, log: Logbook, interruption: Interruption, sheet: Timesheet, workdir: epath.Path
) -> Generator[tuple[int, State, dict[str, float], Due]]:
    """Steps the run and yields (step, state, metrics, what is due) after each; metrics where figures, a score or a save are due."""
    config, since, warned = run.config, start, False
    if start < run.steps:
        group = config.norm.examples_per_group
        parts = f", a batch in {run.parts} parts one after the other, batch norm over {group} as in one" if run.parts > 1 else ""
        log.say(f"compiling the training step for {run.placement.devices} device(s){parts}: about {duration(compile_seconds(run))}")
    batches, before = run.train_batches(start), sheet.training_seconds()
    with Watchdog() as dog, closing(Trace(config.profiled, workdir, log.say)) as trace:
        for step in range(start + 1, run.steps + 1):
            batch = next(batches)
            waited = "input" if tally.is_waiting else "step"
            sheet.book(waited if step > start + 1 else "restart")
            trace.before(step)
            with log.ticking() if step == start + 1 else nullcontext():
                state, sums = run.train_step(state, batch)
                if step == start + 1:
                    jax.block_until_ready(sums)
                    _ = float(run.schedule(step - 1))  # compiled here, and not where figures are due
            interruption.hold(True)
            tally.add(step, sums)
            if step == start + 1:
                log.say(f"compiled, and made the first step, in {duration(sheet.book('compile'))}")
                log.begin(step)
                dog.expect(since := step, config.log_every_steps)
                before = sheet.training_seconds()
            trace.after(step, sums)
            is_due = Due(due(step, run, config.evaluate_every_epochs), due(step, run, config.checkpoint_every_epochs))
            metrics: dict[str, float] = {}
            if step == 1 or any(is_due) or step % config.log_every_steps == 0:
                total = tally.take()  # waits for the accelerator
                sheet.book("step")
                dog.made(step - since)
                now = sheet.training_seconds()
                rates = speed(run, step - since, {kind: now[kind] - before[kind] for kind in now})
                metrics = figures(run, step, total) | rates | sheet.take()
                since, before = step, now
                if metrics.get("perf/data_wait_fraction", 0) > INPUT_BOUND and not warned:
                    warned = True
                    log.say(input_bound(metrics["perf/data_wait_fraction"], run.watch.read(), config.data.threads))
                log.advance(step, shown(metrics))
                sheet.book("log")
            else:
                log.advance(step)
                sheet.book("step")
            yield step, state, metrics, is_due
            if metrics:
                dog.expect(step, config.log_every_steps)


def speed(run: Run, steps: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns how fast a stretch of so many steps was by the wall clock, of which these `seconds` by kind went into training.

    The first step of an attempt is compiling, and no part of any stretch.
    """
    if not steps:
        return {}
    total = sum(seconds.values())
    rate = run.config.batch_size * steps / total
    return {
        "perf/images_per_second": rate,
        "perf/images_per_second_per_device": rate / run.placement.devices,
        "perf/data_wait_fraction": seconds["input"] / total,
    }


def shown(metrics: Mapping[str, float]) -> dict[str, str]:
    """What a line of progress has of the metrics; nothing where they tell of no speed."""
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


def figures(run: Run, step: int, total: dict[str, float]) -> dict[str, float]:
    """What is logged of a stretch of steps that ends with `step`, from its sums; no means where not one of them was finite."""
    steps, broken = total.pop("steps", 0.0), total.pop("not_finite", 0.0)
    metrics = {f"train/{name}": value for name, value in means(total).items()} if steps else {}
    if run.may_skip and steps:
        metrics["train/skipped"] = run.config.batch_size * steps - total["count"]
    if broken:
        metrics["train/not_finite"] = broken
    return metrics | {"train/epoch": step / run.steps_per_epoch, "train/learning_rate": float(run.schedule(step - 1))}


def compile_seconds(run: Run) -> float:
    """A guess: half a second for each word of the table, as measured on two CPU cores (38 s for the 75 of the digits network)."""
    words = [word for _, steps in run.network.architecture.layers for word in within(steps) if isinstance(word, Word)]
    return 0.5 * sum(not isinstance(word, Concat | Residual) for word in words)
