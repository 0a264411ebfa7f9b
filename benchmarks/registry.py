"""What it costs to look at the whole family: `python benchmarks/registry.py`.

Seconds for `jax.eval_shape` of every network and variant, auxiliary heads included, and for the command
`inception-jax models` in a process of its own (median of five).
"""

import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
from machine import publish

from inception_jax.models import REGISTRY, architecture
from inception_jax.nn.create import create


def shapes() -> dict[str, float]:
    """Name -> seconds for all of its variants."""
    seconds = {}
    for name, variants in REGISTRY.items():
        begin = time.perf_counter()
        for variant in variants:
            table = architecture(name, variant)
            image = jax.ShapeDtypeStruct((1, table.input_size, table.input_size, table.channels), jnp.float32)
            jax.eval_shape(create(name, variant=variant, aux=True).init, jax.random.key(0), image)
        seconds[name] = round(time.perf_counter() - begin, 2)
    return seconds


def command() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "inception_jax.cli", "models"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    seconds = shapes()
    listing = [command() for _ in range(6)][1:]  # the first fills the file cache
    publish(
        "registry",
        {
            "entries": sum(map(len, REGISTRY.values())),
            "eval_shape_seconds": round(sum(seconds.values()), 1),
            "eval_shape_seconds_by_name": seconds,
            "models_command_seconds": {
                "median": round(statistics.median(listing), 2),
                "spread": [round(min(listing), 2), round(max(listing), 2)],
            },
        },
    )
