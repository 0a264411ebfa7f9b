"""Measures what it costs to look at the whole family.

    python benchmarks/registry.py [--models NAME ...] [--rounds 5]

Seconds for `jax.eval_shape` of every network and variant, auxiliary heads included, and for the
command `inception-jax models` in a process of its own (the median of the rounds).
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.machine import make_parser, publish
from inception_jax.models import REGISTRY, get_architecture
from inception_jax.nn.create import create


def time_shapes(names: Sequence[str]) -> dict[str, float]:
    """Returns name -> seconds for all variants of each network."""
    seconds = {}
    for name in names:
        begin = time.perf_counter()
        for variant in REGISTRY[name]:
            table = get_architecture(name, variant)
            image = jax.ShapeDtypeStruct(
                (1, table.input_size, table.input_size, table.channels), jnp.float32
            )
            jax.eval_shape(create(name, variant=variant, aux=True).init, jax.random.key(0), image)
        seconds[name] = round(time.perf_counter() - begin, 2)
    return seconds


def time_command() -> float:
    """Returns the seconds of one `inception-jax models`."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "inception_jax.cli", "models"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begin


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--models", nargs="+", choices=tuple(REGISTRY), default=tuple(REGISTRY), metavar="NAME"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the command")
    options = parser.parse_args()
    seconds = time_shapes(options.models)
    listing = [time_command() for _ in range(options.rounds + 1)][
        1:
    ]  # the first fills the file cache
    publish(
        options.results / "registry.json",
        {
            "entries": sum(len(REGISTRY[name]) for name in options.models),
            "eval_shape_seconds": round(sum(seconds.values()), 1),
            "eval_shape_seconds_by_name": seconds,
            "models_command_seconds": {
                "median": round(statistics.median(listing), 2),
                "spread": [round(min(listing), 2), round(max(listing), 2)],
            },
        },
    )


if __name__ == "__main__":
    main()
