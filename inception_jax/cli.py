"""The command `inception-jax`: train, evaluate, predict, models, data, plan, report."""

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inception_jax.config import ConfigError, Experiment
from inception_jax.recipes import recipe

if TYPE_CHECKING:
    from etils import epath

    from inception_jax.experiment import Run
    from inception_jax.training.state import State

USAGE = 2
"""The exit code of a line that cannot be understood. Errors that a user can mend carry their own as `exit_code`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], None]] = {
        "train": train, "evaluate": evaluate, "predict": predict, "models": models, "data": data, "plan": plan,
        "report": report,
    }  # fmt: skip
    if not arguments or arguments[0] in ("-h", "--help"):
        print("\n".join(["usage: inception-jax COMMAND ... [--import PACKAGE]", "", *_summaries(commands)]))
        return 0
    name, *rest = arguments
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(commands)}"
        return _failed(f"no command is called {name!r}; {hint}", USAGE)
    try:
        commands[name](_imported(rest))
        sys.stdout.flush()
    except BrokenPipeError:  # `inception-jax models | head`: who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise  # a bug of ours: the traceback is what helps
        return _failed(str(error), error.exit_code)
    return 0


def _failed(message: str, code: int) -> int:
    print(f"inception-jax: {message}", file=sys.stderr)
    return code


def _summaries(commands: dict[str, Callable[[list[str]], None]]) -> list[str]:
    return [f"  {name:10}{(function.__doc__ or '').splitlines()[0]}" for name, function in commands.items()]


def _imported(arguments: list[str]) -> list[str]:
    """Imports what `--import` names, so that its models and datasets are registered; returns the other arguments."""
    rest = []
    remaining = iter(arguments)
    for argument in remaining:
        flag, _, package = argument.partition("=")
        if flag != "--import":
            rest.append(argument)
            continue
        package = package or next(remaining, "")
        sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(package)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"--import {package}: {error}; name a module on the Python path or in this folder") from error
    return rest


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"inception-jax {name}", description=description, allow_abbrev=False)


def train(arguments: list[str]) -> None:
    """Train a recipe; the same line again goes on from where it ended. [RECIPE] [--field value ...] [--help]"""
    config = _configured("train", arguments)
    assert config.workdir
    from inception_jax.experiment import Run
    from inception_jax.logbook import say
    from inception_jax.loop import finished, fit
    from inception_jax.mesh import everything
    from inception_jax.workdir import absolute, claim, record

    workdir, run = absolute(config.workdir), Run(config, everything())
    run.placement.rows(config.batch_size)  # what cannot be run here is refused before anything is written
    headline = run.describe()
    claim(workdir, config)
    if (step := finished(run, workdir)) is not None:
        say(f"{_short(workdir)}: this run is complete at step {step}; for a longer one, ask for more --epochs\n{_last_line(workdir)}")
        return
    if changed := record(workdir, run.placement):
        say(f"this run was begun elsewhere, so it will not be the same bit for bit: {', '.join(changed)}")
    say(f"{headline}; in {_short(workdir)}")
    state, _ = fit(run, workdir, initial=_begin_from(config.init_from, run) if config.init_from else None)
    _illustrate(workdir, run, state)
    if run.placement.leads:
        say(_last_line(workdir))


def _begin_from(workdir: str, run: "Run") -> Callable[[], "State"]:
    """What makes a first state out of another run's."""

    def begin() -> "State":
        from inception_jax.finetune import borrow
        from inception_jax.logbook import say
        from inception_jax.workdir import opened

        _, _, other = opened(workdir)
        state, borrowed = borrow(run.initial_state(), other.variables)
        say(f"from {workdir}, step {int(other.step)}: {borrowed}")
        return state

    return begin


def _configured(command: str, arguments: list[str]) -> Experiment:
    """[RECIPE] [--field value ...] as an experiment that keeps the rules; the recipe is the digits where none is named."""
    import tyro

    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "digits"
    found = recipe(name)
    prog = f"inception-jax {command} {name}"
    config = tyro.cli(Experiment, default=found.config, args=arguments, prog=prog, description=found.description)
    config = dataclasses.replace(config, workdir=config.workdir or f"runs/{found.name}")
    config.check()
    return config


def _illustrate(workdir: "epath.Path", run: "Run", state: "State") -> None:
    """Looks at each held-out example by itself, and draws the report where matplotlib is installed."""
    import numpy as np

    from inception_jax.evaluation.worst import worst_examples

    worst = worst_examples(run.eval_step, state.variables, run.test_batches(), run.class_names, gather=run.placement.gather)
    if not run.placement.leads:
        return
    with (workdir / "worst.npz").open("wb") as file:
        np.savez(file, **cast(Any, worst))
    with contextlib.suppress(ImportError):
        from inception_jax.report.figures import draw

        _page(Path(workdir), draw(Path(workdir)))


def _page(workdir: Path, pictures: Sequence[Path]) -> Path:
    from inception_jax.report.page import write

    return write(workdir, pictures, workdir / "report" / "index.html")


def _in_words(results: Mapping[str, float]) -> str:
    return f"top-1 {results['top1']:.2%}, top-5 {results['top5']:.2%}, loss {results['loss']:.4f}"


def _last_line(workdir: "epath.Path") -> str:
    """The score, and where the pictures are."""
    from inception_jax.logbook import read_metrics

    scored = [row for row in read_metrics(workdir) if "val/top1" in row] if (workdir / "metrics.jsonl").exists() else []
    if not scored:
        return f"its metrics.jsonl holds no score: inception-jax evaluate {_short(workdir)}"
    score = "held-out " + _in_words({name.removeprefix("val/"): value for name, value in scored[-1].items()})
    if not (workdir / "report").exists():
        return f"{score}; for pictures: pip install 'inception-jax[report]' && inception-jax report {_short(workdir)}"
    return f"{score}; pictures in {_short(workdir / 'report')}"


def _short(path: Any) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def evaluate(arguments: list[str]) -> None:
    """Score newest checkpoints on every held-out example; several runs make an ensemble. WORKDIR... [--crops N] [--json] [--help]"""
    parser = _parser("evaluate", evaluate.__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="workdir")
    parser.add_argument("--crops", type=int, default=1, help="views of each image, whose probabilities are averaged: 1, 10, 12 or 144")
    parser.add_argument("--parameters", choices=("averaged", "raw"), default="averaged", help="the moving averages, where there are any")
    parser.add_argument(
        "--statistics", choices=("running", "population", "pooled", "batch"), default="running",
        help="of batch normalisation: as training left them, of the population (algorithm 2 of its paper, or pooled), of each batch",
    )  # fmt: skip
    parser.add_argument("--batches", type=int, default=100, help="training batches that population statistics are taken from")
    parser.add_argument("--health", action="store_true", help="say how far running statistics are from the population's, layer by layer")
    parser.add_argument("--per-class", action="store_true", help="a line for each class, the worst first")
    parser.add_argument("--output", type=Path, help="an .npz with the probabilities and labels of all examples")
    parser.add_argument("--csv", type=Path, help="append the results to this table, in timm's columns")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    from inception_jax.evaluation.predictions import append, ensemble, figures, per_class
    from inception_jax.evaluation.protocol import Protocol, ailments, scored
    from inception_jax.workdir import opened

    protocol = Protocol(options.crops, options.parameters, options.statistics, options.batches)
    opened_runs = [opened(workdir)[1:] for workdir in options.workdirs]
    found = ensemble([scored(run, state, protocol) for run, state in opened_runs])
    (run, state), *_ = opened_runs
    results = {"step": int(state.step), **figures(found)}
    if options.output:
        import numpy as np

        with options.output.open("wb") as file:
            np.savez_compressed(file, **cast(Any, found._asdict()), class_names=np.array(run.class_names))
    if options.csv:
        append(options.csv, _row(opened_runs, results, options))
    if options.json:
        print(json.dumps(results))
    else:
        unread = f", {results['skipped']:.0f} could not be read" if results["skipped"] else ""
        of = f"{len(opened_runs)} networks" if len(opened_runs) > 1 else f"step {results['step']}"
        print(
            f"{of}: top-1 {results['top1']:.2%} +- {results['top1_interval']:.2%}, top-5 {results['top5']:.2%} +- "
            f"{results['top5_interval']:.2%}, loss {results['nll']:.4f}, calibration error {results['calibration_error']:.2%} "
            f"({results['count']} examples{unread}; 95 % intervals)"
        )
    if options.per_class:
        for line in per_class(found, run.class_names):
            mistaken = f", {line['times']} taken for {line['taken_for']}" if line["times"] else ""
            print(f"{line['top1']:7.2%} of {line['count']:6,} {line['class']}{mistaken}")
    if options.health:
        for one in ailments(run, state, protocol):
            print(f"{one.name}: means off by {one.mean:.3f} deviations, variances by a factor of {one.factor:.3f}")


def _row(runs: Sequence[tuple["Run", "State"]], results: Mapping[str, float], options: argparse.Namespace) -> dict[str, Any]:
    """A line of timm's results table."""
    data = runs[0][0].config.data
    percent = {name: round(100 * results[name], 3) for name in ("top1", "top5")}
    return {
        "model": "+".join(run.config.model.name for run, _ in runs),
        "img_size": data.image_size,
        **percent,
        "top1_err": round(100 - percent["top1"], 3),
        "top5_err": round(100 - percent["top5"], 3),
        "param_count": round(sum(run.measured.parameters or 0 for run, _ in runs) / 1e6, 2),
        "crop_pct": data.test_crop_fraction if data.test_crop != "none" else 1.0,
        "interpolation": data.resize,
        "crops": options.crops,
        "parameters": options.parameters,
        "statistics": options.statistics,
        "examples": results["count"],
        "step": results["step"],
    }


def predict(arguments: list[str]) -> None:
    """Name what is in images, with a trained run. WORKDIR IMAGE... [--top K] [--json]"""
    parser = _parser("predict", predict.__doc__)
    parser.add_argument("workdir")
    parser.add_argument("images", nargs="+", metavar="image")
    parser.add_argument("--top", type=int, default=3, help="so many classes for each image")
    parser.add_argument("--json", action="store_true", help="a list with one object per image")
    options = parser.parse_args(arguments)
    import numpy as np

    from inception_jax.data.source import DataError, Example
    from inception_jax.workdir import opened

    _, run, state = opened(options.workdir)
    pixels = []
    for name in options.images:
        try:
            pixels.append(run.pixels(Example(Path(name).read_bytes(), 0)))
        except (OSError, DataError) as error:
            raise DataError(f"{name}: {error}") from error
    probabilities = np.asarray(run.predict_step(state.variables, np.stack(pixels)))
    results = []
    for name, found in zip(options.images, probabilities, strict=True):
        best = np.argsort(-found, kind="stable")[: options.top]
        classes = [{"class": run.class_names[i], "probability": round(float(found[i]), 6)} for i in best]
        results.append({"image": name, "classes": classes})
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for result in results:
        print(f"{result['image']}: " + ", ".join(f"{entry['class']} {entry['probability']:.1%}" for entry in result["classes"]))


def models(arguments: list[str]) -> None:
    """List the networks, or print one layer by layer. [NAME or PATTERN] [--variant V] [--json] [--claims]"""
    parser = _parser("models", models.__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--variant")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--num-classes", type=int)
    parser.add_argument("--json", action="store_true", help="for programs: a list with an object for each name and variant")
    parser.add_argument("--claims", action="store_true", help="what the founding documents say about cost and size, and whether it holds")
    options = parser.parse_args(arguments)
    from inception_jax.models import ALIASES, AMBIGUOUS, REGISTRY, UnknownModelError, architecture, list_models
    from inception_jax.models.claims import claims
    from inception_jax.report.tables import family, layers, printed, record, verdicts
    from inception_jax.spec.measure import measure

    if options.claims:
        found = list(claims())
        print(json.dumps([dataclasses.asdict(claim) for claim in found], indent=1) if options.json else verdicts(found))
        return
    for flag, value, least in (("--image-size", options.image_size, 1), ("--num-classes", options.num_classes, 0)):
        if value is not None and value < least:
            raise ConfigError(f"{flag} {value}: give {least} or more")
    one = options.name and not set("*?[") & set(options.name)
    if options.name in AMBIGUOUS:
        print(AMBIGUOUS[options.name], file=sys.stderr)
    try:
        if one:
            name = ALIASES.get(options.name, options.name)
            architecture(name, options.variant)  # says which name or variant there is, where there is none
            keys = [(name, variant) for variant in REGISTRY[name] if options.variant in (None, variant)][: None if options.json else 1]
        else:
            names = dict.fromkeys(ALIASES.get(name, name) for name in list_models(options.name or "*"))
            keys = [(name, variant) for name in names for variant in REGISTRY[name] if options.variant in (None, variant)]
    except UnknownModelError as error:
        raise ConfigError(str(error)) from error
    if not keys:
        raise ConfigError(f"no model and variant match {options.name or '*'!r} {options.variant or ''}: see inception-jax models")
    measured = []
    for name, variant in keys:
        try:
            measured.append(measure(architecture(name, variant), image_size=options.image_size, num_classes=options.num_classes))
        except ValueError as error:
            raise ConfigError(f"{name} ({variant}): {error}") from error
    if options.json:
        print(json.dumps([record(measurement) for measurement in measured], indent=1))
    elif one:
        print(printed(measured[0]), layers(measured[0]), sep="\n\n")
    else:
        print(family(measured))


def data(arguments: list[str]) -> None:
    """Prepare data, and look at a recipe's. prepare SOURCE [TARGET] | check|show|benchmark [RECIPE] [--field value ...]"""
    action = arguments.pop(0) if arguments else ""
    if action == "prepare":
        _prepare(arguments)
        return
    if action not in ("check", "show", "benchmark"):
        raise ConfigError(
            (f"data {action}" if action else "data") + ": say data prepare (put it on disk for random access), data check (count and "
            "decode), data show (draw what the network sees) or data benchmark (time the input pipeline)"
        )
    config = _configured(f"data {action}", arguments)
    from inception_jax import survey
    from inception_jax.experiment import Run
    from inception_jax.mesh import everything

    run = Run(config, everything())
    if action != "show":
        for line in survey.check(run) if action == "check" else survey.benchmark(run):
            print(line, flush=True)
        return
    figures = _figures()
    seen = survey.seen(run, 32)
    print(_short(figures.contact_sheet(seen.before, seen.after, seen.names, Path("contact_sheet.png"))))


def _prepare(arguments: list[str]) -> None:
    parser = _parser("data prepare", "Put data on disk as ArrayRecord, for random access. What is there already is kept.")
    parser.add_argument("source", help="a folder of <split>/<class>/<image>, one of TFRecords (of TFDS or TF-Slim), or a TFDS dataset")
    parser.add_argument("target", nargs="?", help="where to; for a TFDS dataset its data directory (TFDS_DATA_DIR where not given)")
    options = parser.parse_args(arguments)
    from inception_jax.data.prepare import Preparation
    from inception_jax.data.tfds import download
    from inception_jax.logbook import tracked

    source = Path(options.source).expanduser()
    if not source.exists() and os.sep not in options.source:
        print(f"{options.source} is in {download(options.source, options.target)}: train with --data.name {options.source}")
        return
    if options.target is None:
        raise ConfigError(f"data prepare {options.source}: say also where to put the records")
    preparation = Preparation(source, Path(options.target).expanduser())
    for shard in tracked(preparation.shards, "preparing"):
        preparation.write(shard)
    for split, count in preparation.finish().items():
        print(f"{split}: {count:,} examples")
    print(f"train with --data.name records --data.directory {options.target}")


def plan(arguments: list[str]) -> None:
    """Say what a recipe will do, and which of its values were never published. RECIPE [--field value ...]"""
    name = arguments[0] if arguments and not arguments[0].startswith("-") else "digits"
    config = _configured("plan", arguments)
    from inception_jax.experiment import Run
    from inception_jax.mesh import everything
    from inception_jax.plan.outline import outline

    for line in outline(Run(config, everything()), recipe(name).stand_in):
        print(line)


def _figures() -> Any:
    """The module that draws, where matplotlib is installed."""
    try:
        from inception_jax.report import figures
    except ImportError as error:
        raise ConfigError(f"pictures need matplotlib ({error}): pip install 'inception-jax[report]'") from error
    return figures


def report(arguments: list[str]) -> None:
    """Draw a run's pictures again, from its files; or print what was published beside what was measured. WORKDIR | --published"""
    parser = _parser("report", report.__doc__)
    parser.add_argument("workdir", nargs="*")
    parser.add_argument("--published", action="store_true", help="the papers' results, and the scores of these runs of their recipes")
    options = parser.parse_args(arguments)
    if options.published:
        _beside_the_published([Path(workdir) for workdir in options.workdir])
        return
    if len(options.workdir) != 1:
        raise ConfigError(f"report {' '.join(options.workdir)}: give the folder of one run, or --published")
    (options.workdir,) = options.workdir
    if not (Path(options.workdir) / "metrics.jsonl").exists():
        raise ConfigError(f"{options.workdir} holds no metrics.jsonl: give the folder of a run")
    figures = _figures()
    pictures = figures.draw(Path(options.workdir))
    for file in (*pictures, _page(Path(options.workdir), pictures)):
        print(_short(file))


def _beside_the_published(workdirs: list[Path]) -> None:
    from inception_jax.logbook import read_metrics
    from inception_jax.report.published import compared, published

    measured = {}
    for workdir in workdirs:
        if not (workdir / "metrics.jsonl").exists():
            raise ConfigError(f"{workdir} holds no metrics.jsonl: give the folders of runs")
        scores = [row["val/top1"] for row in read_metrics(workdir) if "val/top1" in row]
        if scores:
            measured[workdir.resolve().name] = 100 * (1 - scores[-1])
    print(compared(published(), measured))


if __name__ == "__main__":
    sys.exit(main())
