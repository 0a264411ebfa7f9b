"""`inception-jax train`: a run from its first step, or from where it ended, to its last."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inception_jax.commands.line import configured, named, scores, short, taken
from inception_jax.config import ConfigError, Data, Experiment, shared
from inception_jax.data.source import DataError
from inception_jax.distributed.cluster import ADDRESS, COUNT, NUMBER
from inception_jax.errors import printable
from inception_jax.files import is_object, json_text, put
from inception_jax.interruption import Interruption
from inception_jax.logbook import quiet, read_metrics, say
from inception_jax.recipes import members, recipe

if TYPE_CHECKING:
    from etils import epath

    from inception_jax.data.source import Source
    from inception_jax.experiment import Run
    from inception_jax.training.state import State

CLUSTER_FLAGS = {"--coordinator": ADDRESS, "--processes": COUNT, "--process": NUMBER}
"""Flags that take the place of the environment's variables."""


def train(arguments: list[str]) -> None:
    """Train a recipe; the same line again goes on from where it ended. [RECIPE] [--field value ...] [--help]

    Several processes make one run where the environment says so (docs/pods.md), or each line: --coordinator HOST:PORT --processes N
    --process I.
    """
    from inception_jax.distributed.processes import joined, run_in_child

    arguments, cluster_flags = taken(arguments, CLUSTER_FLAGS)
    run_in_child(cluster_flags)
    with Interruption() as interruption:
        name, fields = named(arguments)
        every = members(name)
        if len(every) > 1 and any(field.partition("=")[0] == "--seed" for field in fields):
            raise ConfigError(f"--seed would make the {len(every)} members of {name} the same: leave it out, or name one, {every[0]}")
        configs = [configured("train", [member, *fields]) for member in every]
        if len(every) > 1:  # an ensemble is trained one after the other, each in a folder of its own
            given = [config.workdir != f"runs/{recipe(member).name}" for member, config in zip(every, configs, strict=True)]
            configs = [replace(c, workdir=f"{c.workdir}/{i}") if given[i - 1] else c for i, c in enumerate(configs, 1)]
        from inception_jax.record import common

        splits: dict[str, Source] = {}

        def facts() -> dict[str, Any]:
            fields = {name: value for config in reversed(configs) for name, value in shared(config).items()}
            return {**common(), **fields, **_facts_of(configs[0].data, splits)}

        with joined(cluster_flags, facts) as processes:
            if processes:
                interruption.together(processes.notice, processes.look)
            for config in configs:
                _train(config, interruption, splits if config.data == configs[0].data else {})


def _facts_of(data: Data, splits: "dict[str, Source]") -> dict[str, Any]:
    """Opens both splits into `splits`; returns what all processes must have alike of them, or why they cannot be opened."""
    from inception_jax.data.facts import Split, digest_files
    from inception_jax.data.sources import open_source

    found = dict[str, Any]()
    for split in (data.train_split, data.test_split):
        try:
            source = splits[split] = open_source(data.name, split, data.directory)
            names = digest_files((name, 0) for name in source.class_names)
            files = Split.of(split, source).fingerprint
            found[f"data {split}"] = f"{len(source):,} examples of {len(source.class_names):,} classes, names {names}, files {files}"
        except DataError as error:
            found[f"data {split}"] = str(error)
    return found


def _train(config: Experiment, interruption: Interruption, splits: "Mapping[str, Source]") -> None:
    assert config.workdir
    from inception_jax.experiment import Run
    from inception_jax.loop import finished
    from inception_jax.mesh import everything
    from inception_jax.record import check_settings
    from inception_jax.weights.trained import LINEAGE
    from inception_jax.workdir import absolute, claim, compare_data, occupied, resumed, saved

    workdir = absolute(config.workdir)
    config = resumed(workdir, config)
    run = Run(config, everything(config.parameter_shards, config.require), opened=splits)
    leads, tell = run.placement.leads, say if run.placement.leads else quiet
    # What cannot be run here is refused before anything is written.
    run.placement.rows(config.batch_size), run.parts
    headline = run.describe()
    run.check_test_data()
    facts = run.data_facts()
    notes = compare_data(workdir, facts, accept=config.data.changed == "accept", source=run.train_source)
    if config.old_meaning:
        notes = ["; ".join([config.old_meaning, *notes])]
    initial, lineage = None, dict[str, Any]()
    if saved(str(workdir)):
        check_settings(workdir)
    elif config.init_from:
        initial, lineage = initial_from(config.init_from, run)
    with occupied(workdir) if leads else contextlib.nullcontext():
        claim(workdir, config, facts, leads=leads)
        if lineage and leads:
            put(workdir / LINEAGE, json_text(lineage, indent=1) + "\n")
        for note in notes:
            tell(f"{short(workdir)}: {note}")
        if (step := finished(run, workdir)) is not None:
            more = f"--epochs (it has {config.epochs:g})" if config.steps is None else f"--steps (it has {config.steps:,})"
            tell(f"{short(workdir)}: this run is complete at step {step}; for a longer one, ask for more {more}")
        else:
            tell(f"{headline}; in {short(workdir)}")
            _made(workdir, run, interruption, initial)
        if leads:
            _draw(workdir)
            print(printable(_last_line(workdir, len(run.class_names))))


def _made(workdir: "epath.Path", run: "Run", interruption: Interruption, initial: "Callable[[], State] | None") -> None:
    """Trains, and keeps what the report is drawn from; the attempt is noted in `run.json`."""
    from inception_jax.loop import fit
    from inception_jax.record import Record

    leads = run.placement.leads
    record = Record(workdir, leads=leads)
    if (changed := record.begin(run.placement)) and leads:
        say(f"this run was begun elsewhere, so it will not be the same bit for bit: {', '.join(changed)}")
    if leads:
        (workdir / "worst.npz").unlink(missing_ok=True)  # of a shorter run
    interruption.farewell = record.end
    try:
        fit(run, workdir, initial=initial, interruption=interruption, finish=lambda state: _keep_worst(workdir, run, state))
    except Exception as error:
        record.end(f"{type(error).__name__}: {error}")
        raise
    finally:
        interruption.farewell = quiet
    record.end("complete")


def initial_from(path: str, run: "Run") -> tuple[Callable[[], "State"], dict[str, Any]]:
    """Returns what makes a first state out of another run's, or of a file of weights, and the lineage of those.

    Raises:
      ConfigError: there is no such run, or nothing in it fits.
      DataError: a file that cannot be read.
    """
    from inception_jax.finetune import borrow, matching
    from inception_jax.weights.trained import trained

    other = trained(path)
    matching(run.abstract_state(), other.variables, names=(_named(run), f"{other.name}, {_named(other.run)}"))

    def begin() -> "State":
        state, borrowed = borrow(run.initial_state(), other.variables)
        say(f"from {other.name}: {borrowed}")
        return state

    return begin, other.card.lineage


def _named(run: "Run") -> str:
    table = run.network.architecture
    return f"{table.name} ({table.variant}) of {len(run.class_names)} classes"


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
    try:
        from inception_jax.report.figures import draw
        from inception_jax.report.page import write

        write(Path(workdir), draw(Path(workdir)))
    except ImportError:
        return
    except Exception as error:  # the run is complete: whatever is wrong with a picture takes nothing from it
        say(f"its report cannot be drawn ({type(error).__name__}: {error}); `inception-jax report {short(workdir)}` tries again")


def _last_line(workdir: "epath.Path", classes: int) -> str:
    """The score, and where the pictures are."""
    scored = [row for row in read_metrics(workdir) if "val/top1" in row] if (workdir / "metrics.jsonl").exists() else []
    if not scored:
        return f"its metrics.jsonl holds no score: inception-jax evaluate {short(workdir)}"
    score = "held-out " + scores({name.removeprefix("val/"): value for name, value in scored[-1].items()}, classes)
    if not (workdir / "report").exists():
        return f"{score}; for pictures: pip install 'inception-jax[report]' && inception-jax report {short(workdir)}"
    return f"{score}; pictures in {short(workdir / 'report')}"
