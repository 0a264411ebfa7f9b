"""`inception-jax evaluate`: scores of trained runs on every held-out example."""

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inception_jax.atomic_io import format_json, write_atomically
from inception_jax.commands.cli_utils import (
    check_trained,
    import_figures,
    new_parser,
    parse_output_path,
    parse_positive,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.errors import escape_control_characters
from inception_jax.preemption import PreemptionHandler

if TYPE_CHECKING:
    from inception_jax.evaluation.predictions import Predictions
    from inception_jax.evaluation.protocol import Protocol
    from inception_jax.experiment import Run
    from inception_jax.trainer.runs import OpenedRun


def evaluate(arguments: list[str]) -> None:
    """Score newest checkpoints on every held-out example; several runs make an ensemble.

    WORKDIR|WEIGHTS|ID... [--data FOLDER] [--help]

    WORKDIR, WEIGHTS or the id of a release. Weights have no data: --data names images whose
    classes have the network's names, or ImageNet's WordNet ids.
    """
    options = _options(arguments)
    from inception_jax.checkpointing.run_record import collect_shared_facts
    from inception_jax.distributed.processes import join_processes, supervise_subprocess
    from inception_jax.evaluation.protocol import Protocol
    from inception_jax.trainer.runs import follow_checkpoints, list_members, open_run
    from inception_jax.weights.hub import is_release_id

    for path in options.confusion:
        if path.suffix not in (".csv", ".png"):
            raise ConfigError(f"--confusion {path}: give a name that ends in .csv or .png")
    protocol = Protocol(
        options.crops,
        options.parameters,
        options.statistics,
        options.batches,
        tuple(options.sizes or ()),
    )
    for workdir in options.workdirs:
        if not Path(workdir).is_dir():  # perhaps the folder of an ensemble
            check_trained(workdir)
    workdirs = [member for workdir in options.workdirs for member in list_members(workdir)]
    if len(workdirs) > 1 and (options.follow or options.health):
        raise ConfigError(
            f"--follow and --health are for one run: {' '.join(workdirs)} are {len(workdirs)}"
        )
    files = [name for name in workdirs if name.endswith(".safetensors") or is_release_id(name)]
    if files and (
        options.follow or options.health or options.statistics in ("population", "pooled")
    ):
        raise ConfigError(
            f"--follow, --health and population statistics are for runs, and {files[0]} is a file "
            "of weights"
        )
    if files and options.data is None:
        raise ConfigError(
            f"{files[0]} is a file of weights, and has no data of its own: give --data FOLDER, "
            "with <split>/<class>/<image> or <class>/<image>"
        )
    supervise_subprocess()
    with (
        join_processes(facts=collect_shared_facts),
        PreemptionHandler(),  # which has nothing to save here
        use_compilation_cache(),
    ):
        if not options.follow:
            _score(
                [
                    _on_data(_weights(path) if path in files else open_run(path), options)
                    for path in workdirs
                ],
                protocol,
                options,
            )
            return
        for opening in follow_checkpoints(workdirs[0], every=options.every):
            _score([_on_data(opening, options)], protocol, options)


def _weights(path: str) -> "OpenedRun":
    """Returns a weights file as a run, with a batch that the devices divide."""
    import jax.numpy as jnp
    from etils import epath

    from inception_jax.trainer.runs import OpenedRun
    from inception_jax.training.state import State
    from inception_jax.weights.trained_network import load_trained

    run, variables, _, _ = load_trained(path)
    if not run.class_names:
        raise ConfigError(f"{path} has no classifier: there is nothing to score")
    devices = run.placement.devices
    run = replace(run, config=replace(run.config, batch_size=-(-64 // devices) * devices))
    zero = jnp.zeros((), jnp.int32)
    return OpenedRun(
        epath.Path(path),
        run,
        State(zero, variables["params"], variables["batch_stats"], (), {}, zero),
    )


def _on_data(opening: "OpenedRun", options: argparse.Namespace) -> "OpenedRun":
    """Returns the run with the held-out examples of `--data`, if given."""
    if options.data is None:
        return opening
    from inception_jax.data.facts import DataFacts, SplitFacts
    from inception_jax.data.labelled import recognise_images
    from inception_jax.data.registry import open_source
    from inception_jax.monitoring.progress import log_line
    from inception_jax.weights.classes import relabel

    images = recognise_images(options.data, options.data_split)
    if images.assumption and opening.run.placement.is_primary:
        log_line(images.assumption)
    source = relabel(
        open_source(images.name, images.split, images.directory), opening.run.class_names
    )
    data = replace(
        opening.run.config.data, test_split=f"{options.data_split} of {options.data}",
        on_bad_example="skip_and_count",
    )  # fmt: skip
    none = SplitFacts("none", 0, None)
    facts = opening.run.facts or DataFacts(opening.run.class_names, none, none)
    config = replace(opening.run.config, data=data)
    return opening._replace(
        run=replace(
            opening.run,
            config=config,
            given_source=None,
            opened={data.test_split: source},
            facts=facts,
        )
    )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = new_parser("evaluate", evaluate.__doc__)
    said = (
        "of a run, or the folder of an ensemble's, or a file of weights; RUN@STEP for another "
        "checkpoint than its newest"
    )
    parser.add_argument("workdirs", nargs="+", metavar="workdir", help=said)
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help=(
            "score on these images: <split>/<class>/<image>, <class>/<image>, IDX files, prepared "
            "records, or the name of a dataset of TFDS"
        ),
    )
    parser.add_argument(
        "--data-split",
        default="test",
        metavar="SPLIT",
        help="of --data, or a part of it: test[:1000]",
    )
    parser.add_argument(
        "--crops", type=int, default=1,
        help=(
            "views of each image, whose probabilities are averaged: 1, 6 (three squares of the "
            "whole image, mirrored), 10, 12 or 144"
        ),
    )  # fmt: skip
    parser.add_argument(
        "--sizes",
        type=parse_positive,
        nargs="+",
        help="pixels that the network is run at, and averaged over; the recipe's if not given",
    )
    parser.add_argument(
        "--parameters",
        choices=("averaged", "raw"),
        default="averaged",
        help="the moving averages, where there are any",
    )
    parser.add_argument(
        "--statistics", choices=("running", "population", "pooled", "batch"), default="running",
        help=(
            "of batch normalisation: as training left them, of the population (algorithm 2 of its "
            "paper, or pooled), of each batch"
        ),
    )  # fmt: skip
    parser.add_argument(
        "--batches",
        type=parse_positive,
        default=100,
        help="training batches that population statistics are taken from",
    )
    parser.add_argument(
        "--health",
        action="store_true",
        help="how far running statistics are from the population's, and what that costs",
    )
    parser.add_argument(
        "--per-class", action="store_true", help="a line for each class, the worst first"
    )
    parser.add_argument(
        "--confusion", type=parse_output_path, nargs="+", default=[], metavar="FILE",
        help="how often each class is taken for which: a table .csv, a picture .png",
    )  # fmt: skip
    parser.add_argument(
        "--exclude",
        type=Path,
        metavar="FILE",
        help="ImageNet images to leave out, by number: the 1,762 blacklisted ones",
    )
    parser.add_argument(
        "--real",
        type=Path,
        metavar="FILE",
        help="ImageNet's reassessed labels, real.json: score by them too",
    )
    parser.add_argument(
        "--output",
        type=parse_output_path,
        help="an .npz with the probabilities and the label of each example",
    )
    parser.add_argument(
        "--csv", type=parse_output_path, help="append the results to this table, in timm's columns"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="score each new checkpoint of a run that is being trained, to its last",
    )
    parser.add_argument(
        "--every",
        type=parse_positive,
        default=30,
        metavar="SECONDS",
        help="between two looks, with --follow",
    )
    return parser.parse_args(arguments)


def _score(runs: Sequence["OpenedRun"], protocol: "Protocol", options: argparse.Namespace) -> None:
    """Scores the mean of `runs`, and prints and writes it in every requested form."""
    import numpy as np

    from inception_jax.evaluation.imagenet import read_lists, score_reassessed
    from inception_jax.evaluation.predictions import (
        append_result,
        average_predictions,
        compute_metrics,
        score_classes,
    )
    from inception_jax.evaluation.protocol import compare_statistics, score_run
    from inception_jax.weights.hub import is_release_id

    (workdir, run, state), *others = runs
    for other in others:
        if (
            set(other.run.class_names) == set(run.class_names)
            and other.run.class_names != run.class_names
        ):
            raise DataError(
                f"{workdir} and {other.workdir} have their classes in another order: they are no "
                "ensemble"
            )
    for opening in runs:
        _compare_data(
            opening.run, train=options.health or protocol.statistics in ("population", "pooled")
        )
    listed = read_lists(
        run.test_source, options.exclude, options.real
    )  # before the long work: they may be wrong
    found = average_predictions(
        [score_run(run, state, protocol) for _, run, state in runs],
        [str(workdir) for workdir, _, _ in runs],
    )
    examples = np.arange(len(found.labels))
    results: dict[str, Any] = {
        "step": None
        if workdir.suffix == ".safetensors" or is_release_id(workdir)
        else int(state.step)
    }
    if listed and listed.labels is not None:
        results |= score_reassessed(listed.labels, found, listed.numbers)
    if listed and listed.kept is not None:
        found, examples = found.select(listed.kept), listed.kept.nonzero()[0]
    results |= compute_metrics(found)
    if options.health:
        results["health"] = compare_statistics(run, state, protocol)
    if not run.placement.is_primary:
        return
    if options.health:
        write_atomically(workdir / "health.json", format_json(results["health"], indent=1) + "\n")
    if options.output:
        archive = io.BytesIO()
        arrays = {
            "probabilities": found.probabilities,
            "labels": found.labels,
            "seen": found.seen,
            "loss": found.losses,
        }
        np.savez_compressed(
            archive,
            **cast(Any, {**arrays, "example": examples, "class_names": np.array(run.class_names)}),
        )
        write_atomically(options.output, archive.getvalue())
    for file in options.confusion:
        _write_confusions(found, run.class_names, file)
    if options.csv:
        append_result(options.csv, _row(runs, results, options))
    if options.json:
        print(format_json(results), flush=True)
    else:
        _print_results(results, runs)
    if options.per_class and not options.json:
        for one in score_classes(found, run.class_names):
            mistaken = f", {one['times']} taken for {one['taken_for']}" if one["times"] else ""
            print(
                escape_control_characters(
                    f"{one['top1']:7.2%} of {one['count']:6,} {one['class']}{mistaken}"
                )
            )


def _write_confusions(found: "Predictions", class_names: Sequence[str], file: Path) -> None:
    """Writes a confusion matrix as a table or a picture."""
    from inception_jax.evaluation.predictions import count_confusions, format_confusions

    if file.suffix == ".png":
        import_figures().draw_confusions(count_confusions(found), class_names, file)
    else:
        write_atomically(file, format_confusions(count_confusions(found), class_names))


def _compare_data(run: "Run", *, train: bool) -> None:
    """Prints the changes of the data since the run recorded them.

    Args:
      train: Whether to compare the training split too.

    Raises:
      DataError: This process has another number of held-out examples than the run, and other
        processes would wait for it.
    """

    count = run.placement.broadcast_from_primary(len(run.test_source))
    if count != len(run.test_source):
        raise DataError(
            f"this process has {len(run.test_source):,} held-out examples, and the first process "
            f"{count:,}: make them alike"
        )
    for line in run.data_changes(train=train) if run.placement.is_primary else ():
        print(f"the data changed since the run was begun: {line}", file=sys.stderr)


def _print_results(results: Mapping[str, Any], runs: Sequence["OpenedRun"]) -> None:
    unread = f", {results['skipped']:.0f} could not be read" if results["skipped"] else ""
    one = f"step {results['step']}" if results["step"] is not None else runs[0].workdir.name
    of = f"{len(runs)} networks" if len(runs) > 1 else one
    few = len(runs[0].run.class_names) <= 5  # of which the five likeliest are all
    top5 = "" if few else f", top-5 {results['top5']:.2%} +- {results['top5_interval']:.2%}"
    print(
        f"{escape_control_characters(of)}: top-1 {results['top1']:.2%} +- "
        f"{results['top1_interval']:.2%}{top5}, loss {results['nll']:.4f}, calibration error "
        f"{results['calibration_error']:.2%} ({results['count']} examples{unread}; 95 % intervals)",
        flush=True,
    )
    if "real" in results:
        print(
            f"by the reassessed labels: top-1 {results['real']:.2%} +- "
            f"{results['real_interval']:.2%} ({results['real_count']} examples)"
        )
    if "health" in results:
        health = results["health"]
        for one in health["layers"]:
            print(
                f"{one['name']}: means off by {one['mean']:.3f} deviations, variances by a factor "
                f"of {one['factor']:.3f}"
            )
        print(
            f"top-1 under running statistics {health['running']:.2%}, under the population's "
            f"{health['population']:.2%}"
        )


def _row(
    runs: Sequence["OpenedRun"], results: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Returns a row of timm's results table."""
    data = runs[0][1].config.data
    top1, top5 = (round(100 * results[name], 3) for name in ("top1", "top5"))
    return {
        "model": "+".join(run.config.model.name for _, run, _ in runs),
        "img_size": "+".join(map(str, options.sizes or [data.image_size])),
        "top1": top1, "top5": top5,
        "top1_err": round(100 - top1, 3), "top5_err": round(100 - top5, 3),
        "param_count": round(sum(run.parameters for _, run, _ in runs) / 1e6, 2),
        "crop_pct": data.test_crop_fraction if data.test_crop != "none" else 1.0,
        "interpolation": data.resize, "crops": options.crops, "parameters": options.parameters,
        "statistics": options.statistics, "examples": results["count"], "step": results["step"],
    }  # fmt: skip
