"""`inception-jax data`: preparation and inspection of a recipe's data."""

import os
from pathlib import Path

from inception_jax.commands.cli_utils import (
    import_figures,
    new_parser,
    parse_config,
    shorten_path,
    split_recipe,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError
from inception_jax.errors import escape_control_characters
from inception_jax.recipes import list_recipe_members

ACTIONS = {
    "prepare": "put it on disk for random access",
    "check": "count and decode",
    "show": "draw what the network sees",
    "benchmark": "time the input pipeline",
}


def data(arguments: list[str]) -> None:
    """Prepare data, and inspect a recipe's.

    prepare SOURCE [TARGET] | check|show|benchmark [RECIPE] [--field value ...]
    """
    action = arguments.pop(0) if arguments else ""
    if action in ("-h", "--help"):
        print(
            "usage: inception-jax data prepare SOURCE [TARGET] | check|show|benchmark [RECIPE] "
            "[--field value ...]\n"
        )
        print("\n".join(f"  {name:11}{meaning}" for name, meaning in ACTIONS.items()))
        print("\ninception-jax data ACTION --help says what it takes.")
        return
    if action == "prepare":
        _prepare(arguments)
        return
    if action not in ACTIONS:
        said = ", ".join(f"data {name} ({meaning})" for name, meaning in ACTIONS.items())
        raise ConfigError((f"data {action}" if action else "data") + f": say {said}")
    name, fields = split_recipe(arguments)
    config = parse_config(
        f"data {action}", [list_recipe_members(name)[0], *fields]
    )  # an ensemble's members have the same data
    from inception_jax.debugging import inspect_data as survey
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run

    run = Run(config, all_devices_placement())
    if action != "show":
        for line in survey.check_data(run) if action == "check" else survey.benchmark_pipeline(run):
            print(escape_control_characters(line), flush=True)
        return
    with use_compilation_cache(config.compilation_cache):
        seen = survey.sample_prepared(run, 32)
    print(
        shorten_path(
            import_figures().draw_contact_sheet(
                seen.before, seen.after, seen.names, Path("contact_sheet.png")
            )
        )
    )


def _prepare(arguments: list[str]) -> None:
    parser = new_parser(
        "data prepare",
        "Put data on disk as ArrayRecord, for random access. What is there already is kept.",
    )
    parser.add_argument(
        "source",
        help=(
            "a folder of <split>/<class>/<image>, one of IDX files (of MNIST and its like), one of "
            "TFRecords (of TFDS or TF-Slim), or a TFDS dataset"
        ),
    )
    parser.add_argument(
        "target",
        nargs="?",
        help="where to; for a TFDS dataset its data directory (TFDS_DATA_DIR where not given)",
    )
    options = parser.parse_args(arguments)
    from inception_jax.data.prepare import Preparation
    from inception_jax.data.tfds import download_dataset
    from inception_jax.monitoring.progress import show_progress

    source = Path(options.source).expanduser()
    if not source.exists() and os.sep not in options.source:
        print(
            f"{options.source} is in {download_dataset(options.source, options.target)}: train "
            f"with --data.name {options.source}"
        )
        return
    if options.target is None:
        raise ConfigError(f"data prepare {options.source}: say also where to put the records")
    preparation = Preparation(source, Path(options.target).expanduser())
    for shard in show_progress(preparation.shards, "preparing"):
        preparation.write(shard)
    for split, count in preparation.finish().items():
        print(f"{split}: {count:,} examples")
    print(f"train with --data.name records --data.directory {options.target}")
