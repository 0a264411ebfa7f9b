"""`inception-jax models`: the networks, and the layers of each."""

import sys

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import new_parser
from inception_jax.config import ConfigError


def models(arguments: list[str]) -> None:
    """List the networks, or print one layer by layer. [NAME or PATTERN] [--variant V] [--json]"""
    parser = new_parser("models", models.__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--variant")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--num-classes", type=int)
    parser.add_argument(
        "--json",
        action="store_true",
        help="for programs: a list with an object for each name and variant",
    )
    options = parser.parse_args(arguments)
    from inception_jax.models import (
        ALIASES,
        AMBIGUOUS,
        REGISTRY,
        UnknownModelError,
        get_architecture,
        list_models,
    )
    from inception_jax.report.tables import (
        format_family,
        format_layers,
        format_paper_table,
        make_record,
    )
    from inception_jax.spec.measure import measure

    for flag, value, least in (
        ("--image-size", options.image_size, 1),
        ("--num-classes", options.num_classes, 0),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{flag} {value}: give {least} or more")
    one = options.name and not set("*?[") & set(options.name)
    if options.name in AMBIGUOUS:
        print(AMBIGUOUS[options.name], file=sys.stderr)
    try:
        if one:
            name = ALIASES.get(options.name, options.name)
            get_architecture(
                name, options.variant
            )  # says which name or variant there is, where there is none
            keys = [
                (name, variant) for variant in REGISTRY[name] if options.variant in (None, variant)
            ][: None if options.json else 1]
        else:
            names = dict.fromkeys(
                ALIASES.get(name, name) for name in list_models(options.name or "*")
            )
            keys = [
                (name, variant)
                for name in names
                for variant in REGISTRY[name]
                if options.variant in (None, variant)
            ]
    except UnknownModelError as error:
        raise ConfigError(str(error)) from error
    if not keys:
        raise ConfigError(
            f"no model and variant match {options.name or '*'!r} {options.variant or ''}: see "
            "inception-jax models"
        )
    measured = []
    for name, variant in keys:
        try:
            measured.append(
                measure(
                    get_architecture(name, variant),
                    image_size=options.image_size,
                    num_classes=options.num_classes,
                )
            )
        except ValueError as error:
            raise ConfigError(f"{name} ({variant}): {error}") from error
    if options.json:
        print(format_json([make_record(measurement) for measurement in measured], indent=1))
    elif one:
        print(format_paper_table(measured[0]), format_layers(measured[0]), sep="\n\n")
    else:
        print(format_family(measured))
