"""`inception-jax train`: a run from its first step, or from where it ended, to its last."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inception_jax.commands.line import configured, named, scores, short, taken
from inception_jax.config import ConfigError, Experiment, shared
from inception_jax.files import is_object, put
from inception_jax.interruption import Interruption
from inception_jax.recipes import members, recipe
from inception_jax.rendezvous import ADDRESS, COUNT, NUMBER

if TYPE_CHECKING:
    from etils import epath

    from inception_jax.experiment import Run
    from inception_jax.training.state import State

MEETING = {"--coordinator": ADDRESS, "--processes": COUNT, "--process": NUMBER}
"""Flags that say, in the place of the environment, where the processes of a run meet."""


def train(arguments: list[str]) -> None:
    """Train a recipe; the same line again goes on from where it ended. [RECIPE] [--field value ...] [--help]

    Several processes make one run where the environment says so (docs/pods.md), or each line: --coordinator HOST:PORT --processes N
    --process I.
    """
    with Interruption() as interruption:
        arguments, meeting_place = taken(arguments, MEETING)
        name, fields = named(arguments)
        every = members(name)
        if len(every) > 1 and any(field.partition("=")[0] == "--seed" for field in fields):
            raise ConfigError(f"--seed would make the {len(every)} members of {name} the same: leave it out, or name one, {every[0]}")
        configs = [configured("train", [member, *fields]) for member in every]
        if len(every) > 1:  # an ensemble is trained one after the other, each in a folder of its own
            given = [config.workdir != f"runs/{recipe(member).name}" for member, config in zip(every, configs, strict=True)]
            configs = [replace(c, workdir=f"{c.workdir}/{i}") if given[i - 1] else c for i, c in enumerate(configs, 1)]
        from inception_jax.peers import joined
        from inception_jax.record import common

        with joined(
            meeting_place, lambda: {**common(), **{k: v for config in reversed(configs) for k, v in shared(config).items()}}
        ) as peers:
            if peers:
                interruption.together(peers.notice, peers.look)
            for config in configs:
                _train(config, interruption)


def _train(config: Experiment, interruption: Interruption) -> None:
    assert config.workdir
    from inception_jax.experiment import Run
    from inception_jax.logbook import quiet, say
    from inception_jax.loop import finished
    from inception_jax.mesh import everything
    from inception_jax.workdir import absolute, claim, occupied

    workdir, run = absolute(config.workdir), Run(config, everything(config.parameter_shards, config.require))
    run.placement.rows(config.batch_size), run.parts  # what cannot be run here is refused before anything is written
    headline = run.describe()
    leads, tell = run.placement.leads, say if run.placement.leads else quiet
    claim(workdir, config, leads=leads)
    with occupied(workdir) if leads else contextlib.nullcontext():
        if (step := finished(run, workdir)) is not None and (workdir / "worst.npz").exists():
            tell(f"{short(workdir)}: this run is complete at step {step}; for a longer one, ask for more --epochs")
        else:
            tell(f"{headline}; in {short(workdir)}")
            _made(workdir, run, interruption)
        if leads:
            _draw(workdir)
            say(_last_line(workdir))


def _made(workdir: "epath.Path", run: "Run", interruption: Interruption) -> None:
    """Trains, and keeps what the report is drawn from; the attempt is noted in `run.json`."""
    from inception_jax.logbook import quiet, say
    from inception_jax.loop import fit
    from inception_jax.record import Record

    leads = run.placement.leads
    record = Record(workdir, leads=leads)
    if (changed := record.begin(run.placement)) and leads:
        say(f"this run was begun elsewhere, so it will not be the same bit for bit: {', '.join(changed)}")
    if leads:
        (workdir / "worst.npz").unlink(missing_ok=True)  # where it is, the run is complete
    initial = begin_from(run.config.init_from, run) if run.config.init_from else None
    interruption.farewell = record.end
    try:
        state, _ = fit(run, workdir, initial=initial, interruption=interruption)
        _keep_worst(workdir, run, state)
    except Exception as error:
        record.end(f"{type(error).__name__}: {error}")
        raise
    finally:
        interruption.farewell = quiet
    record.end("complete")


def begin_from(path: str, run: "Run") -> Callable[[], "State"]:
    """What makes a first state out of another run's, or of a file of weights."""

    def begin() -> "State":
        from inception_jax.finetune import borrow
        from inception_jax.logbook import say
        from inception_jax.weights.trained import trained

        other = trained(path)
        state, borrowed = borrow(run.initial_state(), other.variables)
        say(f"from {other.name}: {borrowed}")
        return state

    return begin


def _keep_worst(workdir: "epath.Path", run: "Run", state: "State") -> None:
    """Keeps the examples that cost most and the score of each class."""
    import numpy as np

    from inception_jax.evaluation.protocol import Protocol, scored
    from inception_jax.evaluation.worst import worst_examples

    found = scored(run, state, Protocol())
    if not run.placement.leads:
        return
    worst = worst_examples(found, lambda index: run.pixels(run.test_source[index]), run.class_names)
    archive = io.BytesIO()
    np.savez(archive, **cast(Any, worst))
    put(workdir / "worst.npz", archive.getvalue())


def _draw(workdir: "epath.Path") -> None:
    """Draws the report, where it is not older than the run and matplotlib is installed; one of an object store, from a copy on a disk."""
    page, worst = workdir / "report" / "index.html", workdir / "worst.npz"
    if is_object(workdir) or (page.exists() and page.stat().mtime >= worst.stat().mtime):
        return
    with contextlib.suppress(ImportError):
        from inception_jax.report.figures import draw
        from inception_jax.report.page import write

        write(Path(workdir), draw(Path(workdir)))


def _last_line(workdir: "epath.Path") -> str:
    """The score, and where the pictures are."""
    from inception_jax.logbook import read_metrics

    scored = [row for row in read_metrics(workdir) if "val/top1" in row] if (workdir / "metrics.jsonl").exists() else []
    if not scored:
        return f"its metrics.jsonl holds no score: inception-jax evaluate {short(workdir)}"
    score = "held-out " + scores({name.removeprefix("val/"): value for name, value in scored[-1].items()})
    if not (workdir / "report").exists():
        return f"{score}; for pictures: pip install 'inception-jax[report]' && inception-jax report {short(workdir)}"
    return f"{score}; pictures in {short(workdir / 'report')}"
