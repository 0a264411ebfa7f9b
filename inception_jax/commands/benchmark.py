"""`inception-jax benchmark`: the speed of training and inference on this machine."""

import argparse
import sys
from typing import Any

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import parse_config, parse_positive, split_recipe
from inception_jax.compilation_cache import NO_CACHE, use_compilation_cache

IMAGES = {"cpu": 8}
"""A device, where the line does not say; 64 elsewhere."""
MODEL_RECIPES = "resnet50"
"""The recipe in which a network that has none of its own is run."""


def benchmark(arguments: list[str]) -> None:
    """Time a network's training step and inference.

    RECIPE or MODEL [--rounds 10] [--json] [--batch-size B] [--field value ...]
    """
    parser = argparse.ArgumentParser(
        "inception-jax benchmark RECIPE",
        description=benchmark.__doc__,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        "--rounds",
        type=parse_positive,
        default=10,
        help="of each program; the median is given, and the spread",
    )
    parser.add_argument(
        "--json", action="store_true", help="for programs: one object, layers and all"
    )
    name, fields = split_recipe(arguments)
    options, fields = parser.parse_known_args(fields)
    if {"-h", "--help"} & set(fields):
        parser.print_help()
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.models import ALIASES, REGISTRY, get_architecture
    from inception_jax.plan.speed import measure_speed
    from inception_jax.recipes import list_recipes

    if name not in list_recipes() and (network := ALIASES.get(name, name)) in REGISTRY:
        name, fields = (
            MODEL_RECIPES,
            [
                "--model.name",
                network,
                "--data.image-size",
                str(get_architecture(network).input_size),
                *fields,
            ],
        )
    devices = all_devices_placement()
    if not any(field.split("=")[0] == "--batch-size" for field in fields):
        images = IMAGES.get(devices.platform, 64)
        fields = [
            "--batch-size",
            str(images * devices.devices),
            "--norm.examples-per-group",
            str(images),
            *fields,
        ]
    config = parse_config("benchmark", [name, *fields])
    with use_compilation_cache(NO_CACHE):  # so that `compile_seconds` measures compilation
        found = measure_speed(
            Run(config, devices),
            options.rounds,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    print(format_json(found, indent=1) if options.json else "\n".join(format_benchmark(found)))


def format_benchmark(found: dict[str, Any]) -> list[str]:
    """Returns the measurements as text: a line for each program, and a table of the layers."""
    from inception_jax.report.tables import align_columns

    peak = found["rates"]
    lines = [
        f"{found['model']} on {found['devices']} x {found['device_kind']}: {found['batch_size']} "
        f"images of {found['image_size']} px in {found['dtype']}, batch norm over "
        f"{found['examples_per_group']}, rewrites: {', '.join(found['rewrites']) or 'none'}",
        f"a device does {peak['flops'] / 1e12:.3g} TFLOP/s and {peak['bandwidth'] / 1e9:.3g} GB/s "
        f"({peak['source']})",
        "",
    ]
    for name in ("training", "inference"):
        about = found[name]
        low, high = about["spread"]
        lines.append(
            f"{name:10}{about['images_per_second']:.1f} images/s ({low:.1f} to {high:.1f}, "
            f"{found['rounds']} rounds); model FLOPs utilization "
            f"{about['model_flops_utilization']:.1%}, {about['of_roofline']:.1%} of the roofline "
            f"below; {about['memory_bytes'] / 2**30:.2f} GiB; compiled in "
            f"{about['compile_seconds']:.0f} s"
        )
    header = ("layer", "GFLOP", "MB", "bound", "ms", "share")
    rows = [
        (layer["path"], f"{layer['flops'] / 1e9:.3g}", f"{layer['bytes'] / 1e6:.3g}",
         layer["bound"], f"{1e3 * layer['seconds']:.3g}", f"{layer['share']:.1%}")
        for layer in found["training"]["layers"]
    ]  # fmt: skip
    return [*lines, "", "training, at least, on one device:", align_columns(header, rows)]
