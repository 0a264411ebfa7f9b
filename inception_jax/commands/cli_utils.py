"""What the commands share: reading a line, and saying what came of it."""

import argparse
import dataclasses
import importlib
import os
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from inception_jax.config import ConfigError, Experiment, list_inapplicable_fields
from inception_jax.evaluation.confidence import format_with_interval
from inception_jax.old_names import rename_flags
from inception_jax.recipes import load_recipe
from inception_jax.weights.library import load_library

IMPORTED: list[str] = []
"""What `--import` named, for processes that a command starts."""


def new_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"inception-jax {name}", description=description, allow_abbrev=False
    )


def split_recipe(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe that a line begins with, the digits where it names none; and the rest of the line."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return "digits", list(arguments)


def pop_flags(
    arguments: Sequence[str], flags: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Takes `flags` (--flag -> a name) off a line: what is left of it, and the value of each that was given, by name.

    Raises:
      ConfigError: a flag without a value.
    """
    rest, found = [], {}
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag not in flags:
            rest.append(argument)
            continue
        value = value if equals else next(remaining, "")
        if not value or value.startswith("--"):
            raise ConfigError(f"{flag} has no value")
        found[flags[flag]] = value
    return rest, found


def parse_config(command: str, arguments: Sequence[str]) -> Experiment:
    """[RECIPE] [--field value ...] as an experiment that keeps the rules."""
    import tyro

    name, fields = split_recipe(rename_flags(arguments))
    found = load_recipe(name)
    prog = f"inception-jax {command} {name}"
    config = tyro.cli(
        Experiment, default=found.config, args=fields, prog=prog, description=found.description
    )
    config = drop_unfit_values(found.config, config, list_given_fields(fields))
    config = dataclasses.replace(config, workdir=config.workdir or f"runs/{found.name}")
    config.check()
    return config


def list_given_fields(arguments: Sequence[str]) -> set[str]:
    """Returns the fields that a line gives, by dotted name: `schedule.decay_rate`, `data.flip` also of `--data.no-flip`."""
    flags = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    names = (flag.removeprefix("--").replace("-", "_").rpartition(".") for flag in flags)
    return {f"{section}{dot}{name.removeprefix('no_')}" for section, dot, name in names}


def drop_unfit_values(default: Experiment, config: Experiment, fields: Set[str]) -> Experiment:
    """Returns `config`, the recipe `default` with what a line changes, without the values of the recipe that this made meaningless.

    Under another name of the optimizer or the schedule, fields of the recipe's own that have no meaning there fall back to their default;
    epochs take the place of the recipe's steps, and images in folders that a person made are turned as they say.

    Args:
      fields: those that the line gives, which stay as they are.

    Raises:
      ConfigError: it gives both a number of epochs and one of steps.
    """
    if {"epochs", "steps"} <= fields:
        raise ConfigError("--epochs and --steps are both the length of the run: give one of them")
    if "epochs" in fields:
        config = dataclasses.replace(config, steps=None)
    for section in ("optimizer", "schedule"):
        own = getattr(config, section)
        if own.name != getattr(default, section).name:
            fallen = {
                item.name: item.default
                for item in list_inapplicable_fields(own)
                if f"{section}.{item.name}" not in fields
            }
            config = dataclasses.replace(config, **{section: dataclasses.replace(own, **fallen)})
    if config.data.name == "folder" != default.data.name and "data.orientation" not in fields:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, orientation="apply")
        )
    return config


def format_scores(results: Mapping[str, float], classes: int | None = None) -> str:
    """Returns top-1 and loss; and top-5 of more than five classes, or of a number that is not known: of fewer it is always 100 %."""
    top1 = (
        format_with_interval(results["top1"], results["count"])
        if results.get("count")
        else f"{results['top1']:.2%}"
    )
    top5 = "" if classes is not None and classes <= 5 else f", top-5 {results['top5']:.2%}"
    return f"top-1 {top1}{top5}, loss {results['loss']:.4f}"


def shorten_path(path: Any) -> str:
    if "://" in str(path):
        return str(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def import_figures() -> Any:
    """The module that draws, where matplotlib is installed."""
    load_library("matplotlib", "report")
    return importlib.import_module("inception_jax.report.figures")


def parse_positive(text: str) -> int:
    """Of a flag: a number from 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def check_trained(path: str) -> None:
    """Refuses at once what is neither a run nor a file of weights, before anything that takes seconds is loaded.

    Raises:
      ConfigError: it is not there, or is a folder without a run.
    """
    place = Path(re.sub(r"@\d+$", "", path))
    if (
        "://" in path
        or place.is_file()
        or Path(path).is_file()
        or (place / "experiment.json").is_file()
        or place.suffix == ".safetensors"
    ):
        return
    if place.is_dir():
        raise ConfigError(
            f"{path} is no workdir: it has no experiment.json; give the folder of a run, or a file "
            "of weights"
        )
    raise ConfigError(
        f"{path} is no workdir: it has no experiment.json, and is not there; give the folder of a "
        "run, or a file of weights"
    )


def require_unused_path(file: Path, remedy: str = "move it away") -> Path:
    """Returns the path of a file that is to be written.

    Raises:
      ConfigError: there is one already, which stays as it is.
    """
    if file.exists():
        raise ConfigError(
            f"{file} is there already, and stays as it is: give another name with --output, or "
            f"{remedy}"
        )
    return file


def parse_output_path(text: str) -> Path:
    """Of a flag: a file to write, in a folder that is there, so that nothing is computed in vain."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"there is no folder {path.parent} to put {path.name} into"
        )
    return path
