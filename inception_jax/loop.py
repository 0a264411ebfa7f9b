"""fit(): resume, step, log, evaluate, save."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress

import jax
from etils import epath

from inception_jax import confidence
from inception_jax.checkpoint import Checkpoints, DamagedError, Note
from inception_jax.data.source import DataError
from inception_jax.data.stopwatch import input_bound
from inception_jax.evaluation.scoring import evaluate, means
from inception_jax.experiment import Run
from inception_jax.files import is_object
from inception_jax.interruption import Interruption, PreemptedError
from inception_jax.logbook import Logbook, duration, quiet, say
from inception_jax.observers import Observer, Observers, Profile, StallWatch
from inception_jax.replay import DivergedError, suspect
from inception_jax.spec.vocabulary import Concat, Residual, Word, within
from inception_jax.tally import NotFiniteError, Tally
from inception_jax.timesheet import Timesheet
from inception_jax.training.state import State

INPUT_BOUND = 0.2
"""The fraction of the time spent waiting for data from which on a run is told of it."""


def finished(run: Run, workdir: epath.Path) -> int | None:
    """Returns the step at which this run ended, if it is complete; None where steps, its score or the data of its report are missing."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep=run.config.keep_checkpoints, leads=False)
    if not (steps := checkpoints.steps()) or steps[-1] < run.steps:
        return None
    try:
        checkpoints.verify(steps[-1])
        return steps[-1] if checkpoints.note(steps[-1]).is_complete else None
    except DamagedError:
        return None  # fit sets it aside, and makes it again


def fit(
    run: Run, workdir: epath.Path, *, initial: Callable[[], State] | None = None, interruption: Interruption | None = None,
    finish: Callable[[State], None] | None = None,
) -> tuple[State, dict[str, float]]:  # fmt: skip
    """Trains `run` to its last step, going on from the newest sound checkpoint in `workdir`, and scores it.

    A signal stops it wherever it is: what it has is saved, and the next call goes on to the same bits.

    Args:
      initial: makes the state to begin from, where there is no checkpoint, instead of the run's own.
      interruption: one that listens already.
      finish: is called with the last state, when it is saved and scored, before the run counts as complete.

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
            return fit(run, workdir, initial=initial, interruption=listening, finish=finish)
    config, leads, wall = run.config, run.placement.leads, Timesheet()
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints, keep_best=config.keep_best, leads=leads)
    start = run.placement.agreed(checkpoints.sound(say, from_scratch=config.from_scratch) or 0 if leads else 0)
    state = checkpoints.restore(start, run.abstract_state()) if start else (initial or run.initial_state)()
    note = checkpoints.note(start) if start else Note()
    if start and leads:
        say(f"going on from step {start} of {run.steps}")
    tally = Tally(note.sums, stops=config.on_not_finite == "stop", most_skipped=config.max_consecutive_skipped)
    step, unscored, results = start, note.is_unscored, dict[str, float]()
    log = Logbook(workdir, start=start, steps=run.steps, unscored=unscored, leads=leads, compiling=compiling(run))
    observers = Observers(log, *boards(workdir, start, leads), StallWatch(config.log_every_steps), profile(run, workdir), InputWatch(run))

    steps = training(run, state, start, tally, wall, observers)
    with closing(observers), closing(checkpoints), suspected(run, workdir), closing(steps):
        try:
            if unscored:
                results = evaluated(run, start, state, observers, interruption, wall)
                checkpoints.amend(start, Note(note.sums, score=results["top1"]))
            for step, state in steps:
                interruption.hold(True)
                unscored, is_saved = (due(step, run, every) for every in (config.evaluate_every_epochs, config.checkpoint_every_epochs))
                if is_saved:  # before it is scored: what cannot be scored is not lost
                    log.send()
                    checkpoints.save(step, state, note=Note(is_unscored=unscored))
                    wall.book("save")
                if unscored:
                    results = evaluated(run, step, state, observers, interruption, wall)
                    if is_saved:
                        checkpoints.amend(step, Note(score=results["top1"]))
                        wall.book("save")
                unscored = False
                checkpoints.check()
                interruption.look()
        except (PreemptedError, DataError) as error:
            alone = isinstance(error, PreemptedError) or jax.process_count() == 1  # to save is done by all processes, or not at all
            if alone and step not in (start, checkpoints.last):
                log.send()
                checkpoints.save(step, state, note=Note(tally.total(), is_unscored=unscored))
            raise
    wall.book("save")  # closing waits for the last one
    interruption.hold(False)
    interruption.look()
    if leads and step > start:
        say(f"the wall time went into: {wall.summary()}")
    results = results or score(run, state, interruption)
    if finish:
        finish(state)
    checkpoints.amend(step, Note(score=results["top1"], is_complete=True))
    return state, results


@contextmanager
def suspected(run: Run, workdir: epath.Path) -> Iterator[None]:
    """Tells of a step that was not finite what a reader can do about it."""
    try:
        yield
    except NotFiniteError as error:
        raise DivergedError(suspect(run, error.step, workdir, in_a_row=error.in_a_row)) from error


def due(step: int, run: Run, every_epochs: float) -> bool:
    """Whether something done `every_epochs` is done after this step; it always is after the last."""
    if step == run.steps or not every_epochs:
        return step == run.steps
    cadence = every_epochs * run.steps_per_epoch
    return cadence < 1 or round(round(step / cadence) * cadence) == step


def evaluated(run: Run, step: int, state: State, observers: Observer, interruption: Interruption, wall: Timesheet) -> dict[str, float]:
    """Scores the state after `step`, and logs it."""
    results = score(run, state, interruption)
    wall.book("evaluation")
    shown = {f"val/{name}": value for name, value in results.items() if name != "skipped" or run.may_skip}
    observers.write(step, shown | wall.take())
    if run.placement.leads:
        accuracy = confidence.within(results["top1"], results["count"])
        say(f"step {step}/{run.steps} held out: top-1 {accuracy}, loss {results['loss']:.4f}")
    return results


def score(run: Run, state: State, interruption: Interruption) -> dict[str, float]:
    batches = interruption.watched(run.test_batches())
    return evaluate(run.eval_step, state.variables, batches, examples=len(run.test_source), may_skip=run.may_skip)


def training(run: Run, state: State, start: int, tally: Tally, wall: Timesheet, observers: Observer) -> Generator[tuple[int, State]]:
    """Makes the steps of a run from `start` on, and yields (step, state) after each; writes metrics where some are due.

    Raises:
      NotFiniteError: the loss or the gradient of a step was not finite.
    """
    cadences = run.config.evaluate_every_epochs, run.config.checkpoint_every_epochs
    batches, since, before = run.train_batches(start), start, wall.training_seconds()
    for step in range(start + 1, run.steps + 1):
        is_first = step == start + 1
        batch = next(batches)
        wall.book("restart" if is_first else "input" if tally.is_waiting else "step")
        observers.before_step(step)
        state, sums = run.train_step(state, batch)
        tally.add(step, sums)
        if is_first:
            jax.block_until_ready(sums)
            _ = float(run.schedule(step - 1))  # compiled here, and not where metrics are due
            wall.book("compile")
            since, before = step, wall.training_seconds()
        observers.after_step(step, sums)
        if step == 1 or any(due(step, run, every) for every in cadences) or step % run.config.log_every_steps == 0:
            total = tally.take()  # waits for the accelerator
            wall.book("step")
            now = wall.training_seconds()
            rates = speed(run, step - since, {kind: now[kind] - before[kind] for kind in now})
            since, before = step, now
            observers.write(step, figures(run, step, total) | rates | wall.take())
            wall.book("log")
        else:
            wall.book("step")
        yield step, state


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


def figures(run: Run, step: int, total: dict[str, float]) -> dict[str, float]:
    """What is logged of a stretch of steps that ends with `step`, from its sums; no means where not one of them was finite."""
    steps, broken = total.pop("steps", 0.0), total.pop("not_finite", 0.0)
    metrics = {f"train/{name}": value for name, value in means(total).items()} if steps else {}
    if run.may_skip and steps:
        metrics["train/skipped"] = run.config.batch_size * steps - total["count"]
    if broken:
        metrics["train/not_finite"] = broken
    return metrics | {"train/epoch": step / run.steps_per_epoch, "train/learning_rate": float(run.schedule(step - 1))}


def compiling(run: Run) -> str:
    """Returns the line that goes before the first step, with a guess of how long compiling takes: half a second for each word of the
    table, as measured on two CPU cores (38 s for the 75 of the digits network)."""
    words = [word for _, steps in run.network.architecture.layers for word in within(steps) if isinstance(word, Word)]
    seconds = 0.5 * sum(not isinstance(word, Concat | Residual) for word in words)
    group = run.config.norm.examples_per_group
    parts = f", a batch in {run.parts} parts one after the other, batch norm over {group} as in one" if run.parts > 1 else ""
    return f"compiling the training step for {run.placement.devices} device(s){parts}: about {duration(seconds)}"


def boards(workdir: epath.Path, start: int, leads: bool) -> list[Observer]:
    """Returns a writer for TensorBoard, where tensorboardX (of the extra `report`) is installed and the workdir is on a disk."""
    with suppress(ImportError):
        from inception_jax.board import Board

        return [Board(workdir / "tensorboard", start=start)] if leads and not is_object(workdir) else []
    return []


def profile(run: Run, workdir: epath.Path) -> Profile:
    return Profile(run.config.profiled, workdir, say if run.placement.leads else quiet)


class InputWatch(Observer):
    """Says once where a run waits for its data for more than `INPUT_BOUND` of the time."""

    def __init__(self, run: Run):
        self._run, self._has_warned = run, not run.placement.leads

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        fraction = metrics.get("perf/data_wait_fraction", 0)
        if fraction > INPUT_BOUND and not self._has_warned:
            self._has_warned = True
            say(input_bound(fraction, self._run.watch.read(), self._run.config.data.threads))
