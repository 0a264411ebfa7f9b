"""What the commands share: reading a line, and saying what came of it."""

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inception_jax.confidence import within
from inception_jax.config import ConfigError, Experiment
from inception_jax.recipes import recipe

IMPORTED: list[str] = []
"""What `--import` named, for processes that a command starts."""


def new_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"inception-jax {name}", description=description, allow_abbrev=False)


def named(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe that a line begins with, the digits where it names none; and the rest of the line."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return "digits", list(arguments)


def taken(arguments: Sequence[str], flags: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
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


def configured(command: str, arguments: Sequence[str]) -> Experiment:
    """[RECIPE] [--field value ...] as an experiment that keeps the rules."""
    import tyro

    name, fields = named(arguments)
    found = recipe(name)
    prog = f"inception-jax {command} {name}"
    config = tyro.cli(Experiment, default=found.config, args=fields, prog=prog, description=found.description)
    config = dataclasses.replace(config, workdir=config.workdir or f"runs/{found.name}")
    config.check()
    return config


def scores(results: Mapping[str, float]) -> str:
    top1 = within(results["top1"], results["count"]) if results.get("count") else f"{results['top1']:.2%}"
    return f"top-1 {top1}, top-5 {results['top5']:.2%}, loss {results['loss']:.4f}"


def short(path: Any) -> str:
    if "://" in str(path):
        return str(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def figures() -> Any:
    """The module that draws, where matplotlib is installed."""
    try:
        from inception_jax.report import figures
    except ImportError as error:
        raise ConfigError(f"pictures need matplotlib ({error}): pip install 'inception-jax[report]'") from error
    return figures


def positive(text: str) -> int:
    """Of a flag: a number from 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def unused(file: Path, remedy: str = "move it away") -> Path:
    """Returns the path of a file that is to be written.

    Raises:
      ConfigError: there is one already, which stays as it is.
    """
    if file.exists():
        raise ConfigError(f"{file} is there already, and stays as it is: give another name with --output, or {remedy}")
    return file


def target(text: str) -> Path:
    """Of a flag: a file to write, in a folder that is there, so that nothing is computed in vain."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent} to put {path.name} into")
    return path
