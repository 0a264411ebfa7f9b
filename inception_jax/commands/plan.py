"""`inception-jax plan`: the steps, memory and traffic of a recipe, before training."""

import argparse
import importlib
import json
import os
import sys
from dataclasses import replace
from typing import Any

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import IMPORTED, parse_config, parse_positive, split_recipe
from inception_jax.config import ConfigError, Experiment, from_json, to_json
from inception_jax.errors import UserError
from inception_jax.monitoring.progress import log_line
from inception_jax.recipes import list_recipe_members, load_recipe

MAX_FIT_BATCH = 4096
"""Images a device that are tried at most."""


def plan(arguments: list[str]) -> None:
    """Print what a recipe does, and what TPUs or GPUs need for it.

    RECIPE [--topology v5e:16x16 or h100:8] [--fit] [--json] [--field value ...]
    """
    name, fields = split_recipe(arguments)
    options, fields = _options(fields)
    if options.topology or options.compile or options.fit or options.json:
        _compiled(name, fields, options)
        return
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.plan.outline import format_outline

    for i, member in enumerate(list_recipe_members(name)):
        config = parse_config("plan", [member, *fields])
        print("\n" * (i > 0) + f"{load_recipe(member).name}:")
        for line in format_outline(
            Run(config, all_devices_placement()), load_recipe(member).assumptions
        ):
            print(line)


def _options(fields: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags of the command, and the other arguments, which are fields of the recipe."""
    parser = argparse.ArgumentParser(
        "inception-jax plan RECIPE", description=plan.__doc__, allow_abbrev=False, add_help=False
    )
    parser.add_argument(
        "--topology",
        metavar="v5e:16x16 or h100:8",
        help="compile the training step for these TPUs or GPUs (h100:2x8: two hosts with eight "
        "each), none of which need be here",
    )
    parser.add_argument(
        "--slices",
        type=parse_positive,
        default=1,
        help="so many slices of these TPUs, joined by the data centre's network",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile it for the devices of this machine"
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="find the largest batch that fits, with the recipe's batch norm groups",
    )
    parser.add_argument("--json", action="store_true", help="for programs: one object")
    options, rest = parser.parse_known_args(fields)
    if options.slices > 1 and not options.topology:
        parser.error("--slices is of a --topology")
    if options.topology and options.compile:
        parser.error("--compile is for the devices of this machine: leave it out, or --topology")
    if {"-h", "--help"} & set(rest):
        parser.print_help()
    return options, rest


def _compiled(name: str, fields: list[str], options: argparse.Namespace) -> None:
    config = parse_config("plan", [name, *fields])
    from inception_jax.plan.chips import parse_topology
    from inception_jax.plan.formatting import format_result

    if options.topology:
        parse_topology(options.topology, options.slices)  # an error lists those that there are
    if options.fit:
        answer = _find_fit(name, config, options)
    else:
        answer = _run_answer(
            name, config, options, compile=bool(options.topology or options.compile)
        )
    outline = answer.pop("outline")
    print(
        format_json(answer, indent=1)
        if options.json
        else "\n".join([f"{answer['recipe']}:", *outline, *format_result(answer)])
    )


def _run_answer(
    name: str, config: Experiment, options: argparse.Namespace, **request: Any
) -> dict[str, Any]:
    """Returns the answer of a subprocess, which runs `_answer`."""
    from inception_jax.plan.compile_process import run_in_subprocess

    given = {
        "recipe": name,
        "imports": IMPORTED,
        "config": to_json(config),
        "topology": options.topology,
        "slices": options.slices,
    }
    return run_in_subprocess(__name__, given | request)


def _find_fit(name: str, config: Experiment, options: argparse.Namespace) -> dict[str, Any]:
    from inception_jax.plan.formatting import format_attempt
    from inception_jax.plan.largest_batch import find_largest_batch, list_batch_candidates

    lies = _run_answer(name, config, options, compile=False)
    if not lies["memory_limit_bytes"]:
        raise ConfigError(
            f"--fit: how much memory a {lies['device_kind']} has is not known; name a --topology, "
            "v5e:16x16 or h100:8"
        )
    devices = lies["devices"]
    sizes = list_batch_candidates(config.norm.examples_per_group, devices, MAX_FIT_BATCH)
    tried = []

    def attempt(images: int) -> dict[str, Any]:
        answer = _run_answer(
            name, replace(config, batch_size=images * devices), options, compile=True
        )
        tried.append(
            {
                key: answer[key]
                for key in ("images_per_device", "fits", "memory_bytes", "compile_seconds")
            }
        )
        log_line(format_attempt(answer))
        return answer

    best = find_largest_batch(
        sizes, attempt, start=config.batch_size // devices, fixed_bytes=lies["state_bytes"]
    )
    return {**best, "tried": tried}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to a request, in the subprocess, or an error that a user can resolve."""
    from inception_jax.experiment import Run
    from inception_jax.plan.chips import parse_topology
    from inception_jax.plan.compiled_step import (
        collect_facts,
        compile_train_step,
        topology_placement,
    )
    from inception_jax.plan.norm_groups import round_up_batch_size
    from inception_jax.plan.outline import format_outline

    try:
        for package in request["imports"]:
            importlib.import_module(package)
        found = load_recipe(request["recipe"])  # which may register a network or a dataset
        place = (
            parse_topology(request["topology"], request["slices"]) if request["topology"] else None
        )
        config = from_json(request["config"])
        devices = topology_placement(
            place, config.parameter_shards if place or request["compile"] else 1
        )
        run = Run(round_up_batch_size(config, devices.devices) if place else config, devices)
        about = compile_train_step(run, place) if request["compile"] else collect_facts(run, place)
        asked = {"recipe": found.name, "requested_batch_size": config.batch_size}
        return {**asked, **about, "outline": list(format_outline(run, found.assumptions))}
    except UserError as error:
        return {"error": str(error), "exit_code": error.exit_code}


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print is not the answer
    line = json.dumps(_answer(json.load(sys.stdin)))
    os.write(answers, line.encode() + b"\n")
