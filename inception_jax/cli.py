"""The command `inception-jax`: train, evaluate, predict, models, report."""

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import json
import os
import signal
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from inception_jax import __version__
from inception_jax.config import ConfigError, Experiment, differences, from_json, to_json

if TYPE_CHECKING:
    from etils import epath

    from inception_jax.experiment import Run
    from inception_jax.training.state import State

USAGE = 2
"""The exit code of a line that cannot be understood. Errors that a user can mend carry their own as `exit_code`."""
RECIPES = [Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs"]
"""Packed inside a wheel, and beside the package in a checkout."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], None]] = {
        "train": train, "evaluate": evaluate, "predict": predict, "models": models, "report": report,
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


# Recipes and working directories.


class Recipe(NamedTuple):
    name: str
    description: str
    config: Experiment


def recipe(name: str) -> Recipe:
    """Reads a recipe: the path of a Python file, a name in `configs/`, or `package.module` of a user's own.

    Raises:
      ConfigError: there is none, or it sets no `config`.
    """
    paths = [Path(name), *(folder / f"{name}.py" for folder in RECIPES)]
    path = next((path for path in paths if path.suffix == ".py" and path.is_file()), None)
    try:
        module = _module_of(path) if path else importlib.import_module(name)
    except (ImportError, ValueError) as error:
        known = sorted(file.stem for folder in RECIPES for file in folder.glob("*.py"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}; or give the path of a Python file"
        raise ConfigError(f"no recipe {name!r} ({error}); {hint}") from error
    config = getattr(module, "config", None)
    if not isinstance(config, Experiment):
        raise ConfigError(f"{name}: a recipe sets `config` to an inception_jax.config.Experiment, and this one is {config!r}")
    return Recipe(path.stem if path else name.rpartition(".")[2], (module.__doc__ or "").strip(), config)


def _module_of(path: Path) -> types.ModuleType:
    """A file as a module of a package made of its folder, so that `from .recipes import ...` finds its neighbours."""
    folder = types.ModuleType("_inception_jax_recipes")
    folder.__path__ = [str(path.parent)]
    sys.modules[folder.__name__] = folder
    spec = importlib.util.spec_from_file_location(f"{folder.__name__}.{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _workdir(path: str) -> "epath.Path":
    from etils import epath

    # Orbax wants absolute paths; a path with a scheme is one already.
    return epath.Path(path if "://" in path else os.path.abspath(path))


def claim(workdir: "epath.Path", config: Experiment) -> None:
    """Makes `workdir` this experiment's, and writes the resolved configuration into it.

    Raises:
      ConfigError: it holds a run of another identity, which stays as it is.
      StorageError: it cannot be written.
    """
    from inception_jax.checkpoint import StorageError

    file = workdir / "experiment.json"
    if file.exists():
        changed = differences(_stored(workdir), config)
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise ConfigError(f"{workdir} holds a run of another configuration:\n{lines}\nchoose another --workdir, or move that one away")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        unfinished = workdir / "experiment.json.tmp"
        unfinished.write_text(json.dumps(to_json(config), indent=2) + "\n")
        unfinished.replace(file)
    except OSError as error:
        raise StorageError(f"the workdir {workdir} cannot be written ({error}): choose another --workdir") from error


def _stored(workdir: "epath.Path") -> Experiment:
    try:
        return from_json(json.loads((workdir / "experiment.json").read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{workdir} is no workdir: it has no experiment.json; give the folder of a run") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{workdir}/experiment.json cannot be read ({error}): move the folder away") from error


def opened(path: str) -> "tuple[epath.Path, Run, State]":
    """A workdir, its run in this room, and its newest state.

    Raises:
      ConfigError: no run, or one without a checkpoint.
    """
    from inception_jax.checkpoint import Checkpoints
    from inception_jax.experiment import Run
    from inception_jax.loop import resume
    from inception_jax.mesh import everything

    workdir = _workdir(path)
    config = _stored(workdir)
    run = Run(config, everything())
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints, leads=False)
    state = resume(run, checkpoints)
    checkpoints.close()
    if state is None:
        raise ConfigError(f"{workdir} has no finished checkpoint yet: train first, with the same --workdir")
    return workdir, run, state


# The commands.


def train(arguments: list[str]) -> None:
    """Train a recipe; the same line again goes on from where it ended. [RECIPE] [--field value ...] [--help]"""
    import tyro

    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "digits"
    found = recipe(name)
    config = tyro.cli(Experiment, default=found.config, args=arguments, prog=f"inception-jax train {name}", description=found.description)
    config = dataclasses.replace(config, workdir=config.workdir or f"runs/{found.name}")
    config.check()
    assert config.workdir

    from inception_jax.experiment import Run
    from inception_jax.logbook import say
    from inception_jax.loop import finished, fit
    from inception_jax.mesh import everything

    workdir, run = _workdir(config.workdir), Run(config, everything())
    run.placement.rows(config.batch_size)  # what cannot be run here is refused before anything is written
    headline = run.describe()
    claim(workdir, config)
    if (step := finished(run, workdir)) is not None:
        say(f"{_short(workdir)}: this run is complete at step {step}; for a longer one, ask for more --epochs\n{_last_line(workdir)}")
        return
    (workdir / "run.json").write_text(json.dumps({**run.placement.describe(), **versions(), "command": sys.argv}, indent=2) + "\n")
    say(f"{headline}; in {_short(workdir)}")
    state, _ = fit(run, workdir)
    _illustrate(workdir, run, state)
    if run.placement.leads:
        say(_last_line(workdir))


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

        draw(Path(workdir))


def _in_words(results: Mapping[str, float]) -> str:
    return f"top-1 {results['top1']:.2%}, top-5 {results['top5']:.2%}, loss {results['loss']:.4f}"


def _last_line(workdir: "epath.Path") -> str:
    """The score, and where the pictures are."""
    from inception_jax.logbook import read_metrics

    last = [row for row in read_metrics(workdir) if "val/top1" in row][-1]
    score = "held-out " + _in_words({name.removeprefix("val/"): value for name, value in last.items()})
    if not (workdir / "report").exists():
        return f"{score}; for pictures: pip install 'inception-jax[report]' && inception-jax report {_short(workdir)}"
    return f"{score}; pictures in {_short(workdir / 'report')}"


def _short(path: Any) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def versions() -> dict[str, str]:
    """Of what a run's numbers hang on."""
    from importlib.metadata import version

    names = ["jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"]
    return {
        "inception-jax": __version__,
        "python": sys.version.split()[0],
        **{name: version(name) for name in names},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def evaluate(arguments: list[str]) -> None:
    """Score a run's newest checkpoint on every held-out example. WORKDIR [--json]"""
    parser = _parser("evaluate", evaluate.__doc__)
    parser.add_argument("workdir")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    from inception_jax.loop import score

    _, run, state = opened(options.workdir)
    results = {"step": int(state.step), **score(run, state)}
    if options.json:
        print(json.dumps(results))
        return
    print(f"step {results['step']}: {_in_words(results)} ({results['count']:.0f} examples)")


def predict(arguments: list[str]) -> None:
    """Name what is in images, with a trained run. WORKDIR IMAGE... [--top K] [--json]"""
    parser = _parser("predict", predict.__doc__)
    parser.add_argument("workdir")
    parser.add_argument("images", nargs="+", metavar="image")
    parser.add_argument("--top", type=int, default=3, help="so many classes for each image")
    parser.add_argument("--json", action="store_true", help="a list with one object per image")
    options = parser.parse_args(arguments)
    import numpy as np

    from inception_jax.data.sources import DataError, Example

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
    """List the networks, or print one layer by layer. [NAME] [--variant V] [--image-size N] [--num-classes N]"""
    parser = _parser("models", models.__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--variant")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--num-classes", type=int, default=1000)
    options = parser.parse_args(arguments)
    from inception_jax.models import REGISTRY, UnknownModelError, architecture
    from inception_jax.report.tables import family, layers
    from inception_jax.spec.measure import measure

    try:
        if options.name:
            print(
                layers(measure(architecture(options.name, options.variant), image_size=options.image_size, num_classes=options.num_classes))
            )
        else:
            print(family([measure(architecture(name, variant)) for name, variants in REGISTRY.items() for variant in variants]))
    except UnknownModelError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"{options.name}: {error}") from error


def report(arguments: list[str]) -> None:
    """Draw a run's pictures again, from its files. WORKDIR"""
    parser = _parser("report", report.__doc__)
    parser.add_argument("workdir")
    options = parser.parse_args(arguments)
    if not (Path(options.workdir) / "metrics.jsonl").exists():
        raise ConfigError(f"{options.workdir} holds no metrics.jsonl: give the folder of a run")
    try:
        from inception_jax.report.figures import draw
    except ImportError as error:
        raise ConfigError(f"pictures need matplotlib ({error}): pip install 'inception-jax[report]'") from error
    for file in draw(Path(options.workdir)):
        print(_short(file))


if __name__ == "__main__":
    sys.exit(main())
