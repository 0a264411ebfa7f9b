"""`inception-jax evaluate`: trained runs, scored on every held-out example."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inception_jax.commands.line import new_parser
from inception_jax.config import ConfigError

if TYPE_CHECKING:
    from inception_jax.evaluation.predictions import Predictions
    from inception_jax.evaluation.protocol import Protocol
    from inception_jax.experiment import Run
    from inception_jax.workdir import Opened


def evaluate(arguments: list[str]) -> None:
    """Score newest checkpoints on every held-out example; several runs make an ensemble. WORKDIR... [--crops N] [--json] [--help]"""
    options = _options(arguments)
    from inception_jax.evaluation.protocol import Protocol
    from inception_jax.workdir import following, members, opened

    protocol = Protocol(options.crops, options.parameters, options.statistics, options.batches, tuple(options.sizes or ()))
    workdirs = [member for workdir in options.workdirs for member in members(workdir)]
    if not options.follow:
        _score([opened(workdir) for workdir in workdirs], protocol, options)
        return
    if len(workdirs) > 1:
        raise ConfigError(f"--follow is for one run: {' '.join(workdirs)} are {len(workdirs)}")
    for opening in following(workdirs[0], every=options.every):
        _score([opening], protocol, options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = new_parser("evaluate", evaluate.__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="workdir", help="of runs; an ensemble's folder stands for its members")
    parser.add_argument(
        "--crops", type=int, default=1,
        help="views of each image, whose probabilities are averaged: 1, 6 (three squares of the whole image, mirrored), 10, 12 or 144",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="pixels that the network is run at, and averaged over; the recipe's if not given"
    )
    parser.add_argument("--parameters", choices=("averaged", "raw"), default="averaged", help="the moving averages, where there are any")
    parser.add_argument(
        "--statistics", choices=("running", "population", "pooled", "batch"), default="running",
        help="of batch normalisation: as training left them, of the population (algorithm 2 of its paper, or pooled), of each batch",
    )  # fmt: skip
    parser.add_argument("--batches", type=int, default=100, help="training batches that population statistics are taken from")
    parser.add_argument("--health", action="store_true", help="how far running statistics are from the population's, and what that costs")
    parser.add_argument("--per-class", action="store_true", help="a line for each class, the worst first")
    parser.add_argument("--exclude", type=Path, metavar="FILE", help="ImageNet images to leave out, by number: the 1,762 blacklisted ones")
    parser.add_argument("--real", type=Path, metavar="FILE", help="ImageNet's reassessed labels, real.json: score by them too")
    parser.add_argument("--output", type=Path, help="an .npz with the probabilities and labels of all examples")
    parser.add_argument("--csv", type=Path, help="append the results to this table, in timm's columns")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--follow", action="store_true", help="score each new checkpoint of a run that is being trained, to its last")
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS", help="between two looks, with --follow")
    return parser.parse_args(arguments)


def _score(runs: Sequence["Opened"], protocol: "Protocol", options: argparse.Namespace) -> None:
    """Scores the mean of `runs`, and says so in each way that was asked for."""
    from inception_jax.evaluation.predictions import append, ensemble, figures, per_class
    from inception_jax.evaluation.protocol import examined, scored

    found = ensemble([scored(run, state, protocol) for _, run, state in runs])
    (workdir, run, state), *_ = runs
    found, more = _by_lists(found, run, options)
    results: dict[str, Any] = {"step": int(state.step), **figures(found), **more}
    if options.health:
        results["health"] = examined(run, state, protocol)
        if run.placement.leads:
            (workdir / "health.json").write_text(json.dumps(results["health"], indent=1) + "\n")
    if options.output:
        import numpy as np

        with options.output.open("wb") as file:
            np.savez_compressed(file, **cast(Any, found._asdict()), class_names=np.array(run.class_names))
    if options.csv:
        append(options.csv, _row(runs, results, options))
    if options.json:
        print(json.dumps(results), flush=True)
        return
    _say(results, runs)
    if options.per_class:
        for one in per_class(found, run.class_names):
            mistaken = f", {one['times']} taken for {one['taken_for']}" if one["times"] else ""
            print(f"{one['top1']:7.2%} of {one['count']:6,} {one['class']}{mistaken}")


def _by_lists(found: "Predictions", run: "Run", options: argparse.Namespace) -> tuple["Predictions", dict[str, float]]:
    """What is left of `found` by --exclude, and the score by --real."""
    if not (options.exclude or options.real):
        return found, {}
    from inception_jax.evaluation.imagenet import excluded, numbers, reassessed, scored_by

    own = numbers(run.test_source)
    more = scored_by(reassessed(options.real), found, own) if options.real else {}
    return found.those(excluded(options.exclude, own)) if options.exclude else found, more


def _say(results: Mapping[str, Any], runs: Sequence["Opened"]) -> None:
    unread = f", {results['skipped']:.0f} could not be read" if results["skipped"] else ""
    of = f"{len(runs)} networks" if len(runs) > 1 else f"step {results['step']}"
    print(
        f"{of}: top-1 {results['top1']:.2%} +- {results['top1_interval']:.2%}, top-5 {results['top5']:.2%} +- "
        f"{results['top5_interval']:.2%}, loss {results['nll']:.4f}, calibration error {results['calibration_error']:.2%} "
        f"({results['count']} examples{unread}; 95 % intervals)",
        flush=True,
    )
    if "real" in results:
        print(f"by the reassessed labels: top-1 {results['real']:.2%} +- {results['real_interval']:.2%} ({results['real_count']} examples)")
    if "health" in results:
        health = results["health"]
        for one in health["layers"]:
            print(f"{one['name']}: means off by {one['mean']:.3f} deviations, variances by a factor of {one['factor']:.3f}")
        print(f"top-1 under running statistics {health['running']:.2%}, under the population's {health['population']:.2%}")


def _row(runs: Sequence["Opened"], results: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """A line of timm's results table."""
    data = runs[0][1].config.data
    percent = {name: round(100 * results[name], 3) for name in ("top1", "top5")}
    return {
        "model": "+".join(run.config.model.name for _, run, _ in runs),
        "img_size": "+".join(map(str, options.sizes or [data.image_size])),
        **percent,
        "top1_err": round(100 - percent["top1"], 3),
        "top5_err": round(100 - percent["top5"], 3),
        "param_count": round(sum(run.measured.parameters or 0 for _, run, _ in runs) / 1e6, 2),
        "crop_pct": data.test_crop_fraction if data.test_crop != "none" else 1.0,
        "interpolation": data.resize,
        "crops": options.crops,
        "parameters": options.parameters,
        "statistics": options.statistics,
        "examples": results["count"],
        "step": results["step"],
    }
