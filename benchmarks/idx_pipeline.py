"""The MNIST networks fed from IDX files: steps/s with and without the input pipeline.

    python benchmarks/idx_pipeline.py [--directory FOLDER]

Images of 28x28 in the four files of MNIST: those of FOLDER, else noise. Each round times, for each
recipe, the batches alone, the step alone on one batch that is on the device, and both together.
"""

import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.machine import make_parser, publish

RECIPES = ("mnist", "mnist_bn")


def write_idx_files(folder: Path, images: int) -> None:
    """Writes `images` of noise for training, and a tenth of them for testing."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("t10k", max(10, images // 10))):
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8).tobytes()
        labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
        header = struct.pack(">4I", 0x803, count, 28, 28)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + pixels)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x801, count) + labels
        )


def measure_rates(recipe: str, folder: Path, steps: int) -> Callable[[], dict[str, float]]:
    """Returns a function that times one round of a recipe."""
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.recipes import load_recipe

    config = load_recipe(recipe).config
    data = replace(config.data, name="idx", directory=str(folder))
    run = Run(replace(config, data=data), all_devices_placement())
    batches = run.train_batches(0, 2**31)
    state = run.initial_state()
    held = next(batches)

    def time_steps(make: Callable[[], Any]) -> float:
        jax.block_until_ready(make())
        began = time.perf_counter()
        for _ in range(steps):
            last = make()
        jax.block_until_ready(last)
        return steps / (time.perf_counter() - began)

    def train_on(batch: Any) -> Any:
        nonlocal state
        state, sums = run.train_step(state, batch)
        return sums

    return lambda: {
        "batches_alone": time_steps(lambda: next(batches)),
        "step_alone": time_steps(lambda: train_on(held)),
        "fed_step": time_steps(lambda: train_on(next(batches))),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--directory", type=Path, help="the four files of MNIST or its like")
    parser.add_argument("--images", type=int, default=60_000, help="of noise, without --directory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000, help="in each turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.directory or Path(name)
        if not options.directory:
            write_idx_files(folder, options.images)
        rounds = {recipe: measure_rates(recipe, folder, options.steps) for recipe in RECIPES}
        rates = {recipe: list[dict[str, float]]() for recipe in RECIPES}
        for _ in range(options.rounds):
            for recipe in RECIPES:
                rates[recipe].append(rounds[recipe]())
    per_second = {
        recipe: {
            side: {
                "median": round(statistics.median(turn[side] for turn in own)),
                "spread": [round(edge(turn[side] for turn in own)) for edge in (min, max)],
            }
            for side in own[0]
        }
        for recipe, own in rates.items()
    }
    figures = {"rounds": options.rounds, "steps_per_second": per_second}
    publish(options.results / "idx_pipeline.json", figures, ("grain",))


if __name__ == "__main__":
    main()
