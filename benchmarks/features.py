"""How much of its time `features` keeps the network busy.

    python benchmarks/features.py [--images 4096] [--rounds 5] [--batch-size 32] [--network NAME]

Writes the pooled features of images to a file, beside the bare compiled network on batches that are
on the device already: images/s of the one over the other, in alternating rounds. `arrays` are
pixels in memory of the network's size, `jpeg` files of 500x375; `jpeg pipeline` reads, decodes and
transfers the same files without the network. In one process, with all of the machine's cores and
devices.
"""

import importlib.util
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.machine import exit_unavailable, make_parser, publish
from inception_jax.config import Data, Model
from inception_jax.nn.create import create
from inception_jax.weights import files
from inception_jax.weights.cards import Card
from inception_jax.weights.feature_file import save_features
from inception_jax.weights.predictor import Predictor

DISTINCT = 256
"""Images that differ; longer lists repeat them."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=4096, help="images of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--network", default="inception_v3")
    parser.add_argument("--image-size", type=int, default=299)
    parser.add_argument("--dtype", default="float32", help="dtype of the activations")
    options = parser.parse_args()
    if importlib.util.find_spec("grain") is None:
        exit_unavailable("grain is not installed, whose threads decode")
    suffix = ".parquet" if importlib.util.find_spec("pyarrow") else ".npz"
    with tempfile.TemporaryDirectory() as folder:
        kinds = make_kinds(Path(folder), options, suffix)
        for name, run in kinds.items():
            print(f"{name}: {options.batch_size / run(options.batch_size):.1f} images/s, compiling")
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        for i in range(options.rounds):
            for name in list(kinds)[:: 1 if i % 2 else -1]:
                rates[name].append(options.images / kinds[name](options.images))
            print(
                f"round {i + 1}: { ({name: round(rate[-1], 1) for name, rate in rates.items()}) }"
            )
    publish(
        options.results / "features.json",
        {
            "network": options.network,
            "image_size": options.image_size,
            "dtype": options.dtype,
            "images": options.images,
            "batch": options.batch_size,
            "format": suffix,
            "images_per_second": {name: summarize(found) for name, found in rates.items()},
            "ratio_to_bare": {
                name: summarize(
                    [one / bare for one, bare in zip(found, rates["bare"], strict=True)]
                )
                for name, found in rates.items()
                if name != "bare"
            },
        },
        packages=["grain", "pyarrow"],
    )


def make_kinds(folder: Path, options: Any, suffix: str) -> dict[str, Callable[[int], float]]:
    """Returns, by name, functions: number of images -> seconds."""
    jpegs, arrays = make_images(folder, options.image_size)
    size, batch = options.image_size, options.batch_size
    network = create(options.network, num_classes=1000)
    init = jax.jit(network.init, compiler_options={"xla_backend_optimization_level": 0})
    variables = init(jax.random.key(0), np.zeros((1, size, size, 3), np.float32))
    predictors = {}
    for crop in ("none", "square"):
        card = Card(
            Model(options.network, dtype=options.dtype), Data(image_size=size, test_crop=crop), 1000
        )
        files.save(folder / f"{crop}.safetensors", card, jax.tree.map(np.asarray, variables))
        predictors[crop] = Predictor(folder / f"{crop}.safetensors", batch_size=batch)
    file, compute = folder / f"features{suffix}", predictors["none"].make_compute(None)
    own = predictors["none"]._trained.variables
    pixels = jax.device_put(
        np.stack([arrays[i % DISTINCT] for i in range(batch)]),
        predictors["none"].placement.batch_sharding,
    )
    discard = jax.jit(lambda variables, images: images[:, :1, 0, 0])

    def repeat(items: list[Any], count: int) -> list[Any]:
        return [items[i % len(items)] for i in range(count)]

    def save(crop: str, items: list[Any], count: int) -> float:
        begin = time.perf_counter()
        names = [str(i) for i in range(count)]
        save_features(predictors[crop], repeat(items, count), file, names=names)
        return time.perf_counter() - begin

    def read(count: int) -> float:
        begin = time.perf_counter()
        for _ in predictors["square"].each(repeat(jpegs, count), discard):
            pass
        return time.perf_counter() - begin

    def compute_alone(count: int) -> float:
        begin = time.perf_counter()
        jax.block_until_ready([compute(own, pixels) for _ in range(-(-count // batch))])
        return (time.perf_counter() - begin) * count / (-(-count // batch) * batch)

    return {
        "arrays": lambda count: save("none", arrays, count),
        "bare": compute_alone,
        "jpeg": lambda count: save("square", jpegs, count),
        "jpeg pipeline": read,
    }


def make_images(folder: Path, size: int) -> tuple[list[Path], list[np.ndarray]]:
    """Returns JPEG files of 500x375 pixels, smooth with a little noise, and arrays [size, size, 3].

    The files have about the 40 to 60 KB of a photograph.
    """
    rng = np.random.default_rng(0)
    jpegs = []
    for i in range(DISTINCT):
        smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375))
        noisy = np.asarray(smooth, np.int16) + rng.integers(-12, 13, (375, 500, 1))
        encoded = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=85)
        jpegs.append(folder / f"{i:04d}.jpg")
        jpegs[-1].write_bytes(encoded.getvalue())
    arrays = list(rng.integers(0, 256, (DISTINCT, size, size, 3), np.uint8))
    return jpegs, arrays


def summarize(found: list[float]) -> dict[str, Any]:
    """Returns the median, and the smallest and largest value."""
    return {
        "median": round(statistics.median(found), 3),
        "spread": [round(min(found), 3), round(max(found), 3)],
    }


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
