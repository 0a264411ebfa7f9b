"""Functions that the commands share: parsing of arguments, and formatting of results."""

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
from inception_jax.weights.hub import get_release, is_release_id, list_near_ids
from inception_jax.weights.library import load_library

IMPORTED: list[str] = []
"""Modules that `--import` named, for subprocesses."""


def new_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser of the command `name`."""
    return argparse.ArgumentParser(
        prog=f"inception-jax {name}", description=description, allow_abbrev=False
    )


def split_recipe(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the recipe that the arguments begin with (default: digits), and the rest."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return "digits", list(arguments)


def pop_flags(
    arguments: Sequence[str], flags: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Returns the arguments without `flags`, and the values of these flags by name.

    Args:
      flags: Flag -> name.

    Raises:
      ConfigError: A flag has no value.
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
    """Returns the checked experiment of the arguments [RECIPE] [--field value ...]."""
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
    """Returns the dotted names of the fields in the arguments.

    `data.flip` is also the name of `--data.no-flip`.
    """
    flags = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    names = (flag.removeprefix("--").replace("-", "_").rpartition(".") for flag in flags)
    return {f"{section}{dot}{name.removeprefix('no_')}" for section, dot, name in names}


def drop_unfit_values(default: Experiment, config: Experiment, fields: Set[str]) -> Experiment:
    """Returns `config` without values of the recipe that its changes make inapplicable.

    If the optimizer or the schedule has another name, fields of the recipe that do not apply to it
    get their default. Epochs replace the recipe's steps. Images in folders get their EXIF
    orientation.

    Args:
      default: The recipe.
      config: The recipe with the changes of the command line.
      fields: Dotted names of the fields on the command line, which stay as given.

    Raises:
      ConfigError: Both epochs and steps are given.
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
    """Returns top-1, top-5 and loss as text.

    Leaves out top-5 of five classes or fewer, which is always 100 %.
    """
    top1 = (
        format_with_interval(results["top1"], results["count"])
        if results.get("count")
        else f"{results['top1']:.2%}"
    )
    top5 = "" if classes is not None and classes <= 5 else f", top-5 {results['top5']:.2%}"
    return f"top-1 {top1}{top5}, loss {results['loss']:.4f}"


def shorten_path(path: Any) -> str:
    """Returns `path` relative to the working directory if it is below it."""
    if "://" in str(path):
        return str(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def import_figures() -> Any:
    """Returns the module of figures, if matplotlib is installed."""
    load_library("matplotlib", "report")
    return importlib.import_module("inception_jax.report.figures")


def parse_positive(text: str) -> int:
    """Returns the value of a flag, a number from 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def check_trained(path: str) -> None:
    """Raises an error at once for a name that is no run, no weights file and no release.

    Raises:
      ConfigError: It does not exist, is a folder without a run, or an unknown release.
    """
    if is_release_id(path):
        get_release(path)
        return
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
    near = list_near_ids(path)
    hint = f" (near are {', '.join(near)})" if near else ""
    raise ConfigError(
        f"{path} is no workdir: it has no experiment.json, and is not there; give the folder of a "
        f"run, a file of weights, or an id that `inception-jax weights list` names{hint}"
    )


def require_unused_path(file: Path, remedy: str = "move it away") -> Path:
    """Returns the path of a file to write.

    Raises:
      ConfigError: The file exists; it is unchanged.
    """
    if file.exists():
        raise ConfigError(
            f"{file} is there already, and stays as it is: give another name with --output, or "
            f"{remedy}"
        )
    return file


def parse_output_path(text: str) -> Path:
    """Returns the value of a flag, the path of a file to write in an existing folder."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"there is no folder {path.parent} to put {path.name} into"
        )
    return path
