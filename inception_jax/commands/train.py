"""`inception-jax train`: a run from its first or newest step to its last."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inception_jax.atomic_io import format_json, is_object_store, write_atomically
from inception_jax.commands.cli_utils import (
    format_scores,
    parse_config,
    pop_flags,
    shorten_path,
    split_recipe,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError, Data, Experiment, list_shared_fields
from inception_jax.data.source import DataError
from inception_jax.distributed.cluster import ADDRESS, COUNT, NUMBER
from inception_jax.errors import escape_control_characters
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.monitoring.progress import discard_line, log_line
from inception_jax.preemption import PreemptionHandler
from inception_jax.recipes import list_recipe_members, load_recipe

if TYPE_CHECKING:
    from etils import epath

    from inception_jax.data.source import Source
    from inception_jax.evaluation.predictions import Predictions
    from inception_jax.experiment import Run
    from inception_jax.training.state import State

CLUSTER_FLAGS = {"--coordinator": ADDRESS, "--processes": COUNT, "--process": NUMBER}
"""Flags that take the place of the environment's variables."""


def train(arguments: list[str]) -> None:
    """Train a recipe; the same line again goes on from where it ended.

    [RECIPE] [--field value ...] [--help]

    Several processes make one run if the environment names them (docs/pods.md), or each command
    line does: --coordinator HOST:PORT --processes N --process I.
    """
    from inception_jax.distributed.processes import join_processes, supervise_subprocess

    arguments, cluster_flags = pop_flags(arguments, CLUSTER_FLAGS)
    supervise_subprocess(cluster_flags)
    with PreemptionHandler() as preemption:
        name, fields = split_recipe(arguments)
        every = list_recipe_members(name)
        if len(every) > 1 and any(field.partition("=")[0] == "--seed" for field in fields):
            raise ConfigError(
                f"--seed would make the {len(every)} members of {name} the same: leave it out, or "
                f"name one, {every[0]}"
            )
        configs = [parse_config("train", [member, *fields]) for member in every]
        if (
            len(every) > 1
        ):  # an ensemble is trained one after the other, each in a folder of its own
            given = [
                config.workdir != f"runs/{load_recipe(member).name}"
                for member, config in zip(every, configs, strict=True)
            ]
            configs = [
                replace(c, workdir=f"{c.workdir}/{i}") if given[i - 1] else c
                for i, c in enumerate(configs, 1)
            ]
        from inception_jax.checkpointing.run_record import collect_shared_facts

        splits: dict[str, Source] = {}

        def facts() -> dict[str, Any]:
            fields = {
                name: value
                for config in reversed(configs)
                for name, value in list_shared_fields(config).items()
            }
            return {**collect_shared_facts(), **fields, **_facts_of(configs[0].data, splits)}

        with (
            join_processes(cluster_flags, facts) as processes,
            use_compilation_cache(configs[0].compilation_cache),
        ):
            if processes:
                preemption.coordinate(processes.request_stop, processes.should_stop)
            for config in configs:
                opened = splits if config.data == configs[0].data else {}
                workdir, run = train_experiment(config, preemption, opened)
                if run.placement.is_primary:
                    print(escape_control_characters(_last_line(workdir, len(run.class_names))))


def _facts_of(data: Data, splits: "dict[str, Source]") -> dict[str, Any]:
    """Opens both splits into `splits`, and returns the facts that must be equal in all processes.

    An error on opening is such a fact too.
    """
    from inception_jax.data.facts import SplitFacts, hash_file_list
    from inception_jax.data.registry import open_source

    found = dict[str, Any]()
    for split in (data.train_split, data.test_split):
        try:
            source = splits[split] = open_source(
                data.name, split, data.directory,
                holdout=data.holdout, holdout_seed=data.holdout_seed,
            )  # fmt: skip
            names = hash_file_list((name, 0) for name in source.class_names)
            files = SplitFacts.from_source(split, source).fingerprint
            found[f"data {split}"] = (
                f"{len(source):,} examples of {len(source.class_names):,} classes, names {names}, "
                f"files {files}"
            )
        except DataError as error:
            found[f"data {split}"] = str(error)
    return found


def train_experiment(
    config: Experiment, preemption: PreemptionHandler, splits: "Mapping[str, Source]"
) -> "tuple[epath.Path, Run]":
    """Trains an experiment to its end, from its newest checkpoint, and draws its report.

    Args:
      splits: Splits of its data that are open already.

    Returns:
      The workdir, and the run.

    Raises:
      ConfigError, DataError: The experiment does not fit the devices, the data or the workdir.
    """
    assert config.workdir
    from inception_jax.checkpointing.run_record import check_jax_settings
    from inception_jax.checkpointing.workdir import (
        claim_workdir,
        compare_data,
        lock_workdir,
        make_absolute,
        resolve_for_resume,
    )
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.trainer.loop import find_completed_step
    from inception_jax.trainer.runs import list_saved_steps
    from inception_jax.weights.trained_network import LINEAGE_FILE

    workdir = make_absolute(config.workdir)
    config = resolve_for_resume(workdir, config)
    run = Run(config, all_devices_placement(config.parameter_shards, config.require), opened=splits)
    is_primary, tell = (
        run.placement.is_primary,
        log_line if run.placement.is_primary else discard_line,
    )
    # What cannot be run here is refused before anything is written.
    run.placement.local_rows(config.batch_size), run.num_microbatches
    headline = run.format_summary()
    run.check_test_data()
    facts = run.data_facts()
    notes = compare_data(
        workdir, facts, accept=config.data.changed == "accept", source=run.train_source
    )
    if config.old_format_note:
        notes = ["; ".join([config.old_format_note, *notes])]
    initial, lineage = None, dict[str, Any]()
    if list_saved_steps(str(workdir)):
        check_jax_settings(workdir)
    elif config.init_from:
        initial, lineage = make_state_loader(config.init_from, run)
    with lock_workdir(workdir) if is_primary else contextlib.nullcontext():
        claim_workdir(workdir, config, facts, is_primary=is_primary)
        if lineage and is_primary:
            write_atomically(workdir / LINEAGE_FILE, format_json(lineage, indent=1) + "\n")
        for note in notes:
            tell(f"{shorten_path(workdir)}: {note}")
        if (step := find_completed_step(run, workdir)) is not None:
            more = (
                f"--epochs (it has {config.epochs:g})"
                if config.steps is None
                else f"--steps (it has {config.steps:,})"
            )
            tell(
                f"{shorten_path(workdir)}: this run is complete at step {step}; for a longer one, "
                f"ask for more {more}"
            )
        else:
            tell(f"{headline}; in {shorten_path(workdir)}")
            _run_training(workdir, run, preemption, initial)
        if is_primary:
            draw_run(workdir)
    return workdir, run


def _run_training(
    workdir: "epath.Path",
    run: "Run",
    preemption: PreemptionHandler,
    initial: "Callable[[], State] | None",
) -> None:
    """Trains the run, writes the data of its report, and records the attempt in `run.json`."""
    from inception_jax.checkpointing.run_record import RunRecord
    from inception_jax.trainer.loop import fit

    is_primary = run.placement.is_primary
    record = RunRecord(workdir, is_primary=is_primary)
    if (changed := record.begin_attempt(run.placement)) and is_primary:
        log_line(
            "this run was begun elsewhere, so it will not be the same bit for bit: "
            f"{', '.join(changed)}"
        )
    if is_primary:
        (workdir / "worst.npz").unlink(missing_ok=True)  # of a shorter run
    preemption.on_exit = record.end_attempt
    try:
        fit(
            run,
            workdir,
            make_initial_state=initial,
            preemption=preemption,
            finish=partial(keep_worst_examples, workdir, run),
        )
    except Exception as error:
        record.end_attempt(f"{type(error).__name__}: {error}")
        raise
    finally:
        preemption.on_exit = discard_line
    record.end_attempt("complete")


def make_state_loader(path: str, run: "Run") -> tuple[Callable[[], "State"], dict[str, Any]]:
    """Returns a function that makes the initial state from other weights, and their lineage.

    Args:
      path: Another run, or a weights file.

    Raises:
      ConfigError: There is no such run, or none of its arrays fits.
      DataError: A file cannot be read.
    """
    from inception_jax.trainer.initialization import find_matching_arrays, load_matching_arrays
    from inception_jax.weights.trained_network import load_trained

    other = load_trained(path)
    find_matching_arrays(
        run.abstract_state(),
        other.variables,
        names=(_format_network(run), f"{other.name}, {_format_network(other.run)}"),
    )

    def begin() -> "State":
        state, borrowed = load_matching_arrays(run.initial_state(), other.variables)
        log_line(f"from {other.name}: {borrowed}")
        return state

    return begin, other.card.lineage


def _format_network(run: "Run") -> str:
    table = run.network.architecture
    return f"{table.name} ({table.variant}) of {len(run.class_names)} classes"


def keep_worst_examples(workdir: "epath.Path", run: "Run", state: "State") -> "Predictions":
    """Writes the examples with the largest loss, and the score of each class, into the workdir.

    Returns:
      The predictions for all held-out examples.
    """
    import numpy as np

    from inception_jax.evaluation.protocol import Protocol, score_run
    from inception_jax.evaluation.worst import find_worst_examples

    found = score_run(run, state, Protocol())
    if not run.placement.is_primary:
        return found
    worst = find_worst_examples(
        found, lambda index: run.pixels(run.test_source[index]), run.class_names
    )
    archive = io.BytesIO()
    np.savez(archive, **cast(Any, worst))
    write_atomically(workdir / "worst.npz", archive.getvalue())
    return found


def draw_run(workdir: "epath.Path") -> None:
    """Draws the report if it is older than the run and matplotlib is installed.

    A workdir in an object store is copied to a disk first.
    """
    page, worst = workdir / "report" / "index.html", workdir / "worst.npz"
    if is_object_store(workdir) or (page.exists() and page.stat().mtime >= worst.stat().mtime):
        return
    try:
        from inception_jax.report.figures import draw_report
        from inception_jax.report.page import write_page

        write_page(Path(workdir), draw_report(Path(workdir)))
    except ImportError:
        return
    except (
        Exception
    ) as error:  # the run is complete: whatever is wrong with a picture takes nothing from it
        log_line(
            f"its report cannot be drawn ({type(error).__name__}: {error}); `inception-jax report "
            f"{shorten_path(workdir)}` tries again"
        )


def _last_line(workdir: "epath.Path", classes: int) -> str:
    """Returns the line with the score and the folder of the figures."""
    evaluations = (
        [row for row in read_metrics(workdir) if "val/top1" in row]
        if (workdir / "metrics.jsonl").exists()
        else []
    )
    if not evaluations:
        return f"its metrics.jsonl holds no score: inception-jax evaluate {shorten_path(workdir)}"
    score = "held-out " + format_scores(
        {name.removeprefix("val/"): value for name, value in evaluations[-1].items()}, classes
    )
    if not (workdir / "report").exists():
        return (
            f"{score}; for pictures: pip install 'inception-jax[report]' && inception-jax report "
            f"{shorten_path(workdir)}"
        )
    return f"{score}; pictures in {shorten_path(workdir / 'report')}"
