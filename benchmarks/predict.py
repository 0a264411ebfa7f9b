"""How much of its time `Predictor` keeps the network busy.

    python benchmarks/predict.py [--images 1000] [--rounds 5]

JPEGs of 500x375 through Inception-v3 at 299 pixels, whole, beside the bare compiled network on
batches that are in memory already: images/s of the one over the other, in rounds taken turn about.
In one process, with all of the machine's cores for both.
"""

import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.machine import make_parser, publish
from benchmarks.photographs import photographs
from inception_jax.config import Data, Model
from inception_jax.nn.create import create
from inception_jax.weights import files as file
from inception_jax.weights.cards import Card
from inception_jax.weights.predictor import Predictor
from inception_jax.weights.trained_network import load_trained


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=40)
    options = parser.parse_args()
    batch = options.batch_size
    if options.images < options.rounds * batch:
        parser.error(
            f"{options.images} images are less than a batch of {batch} for each of "
            f"{options.rounds} rounds"
        )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for i, (jpeg, _) in enumerate(photographs(options.images)):
            (root / f"{i:04d}.jpg").write_bytes(jpeg)
        files = sorted(root.glob("*.jpg"))
        network = create("inception_v3", variant="torchvision")
        variables = jax.jit(network.init)(jax.random.key(0), np.zeros((1, 299, 299, 3), np.float32))
        data = Data(
            image_size=299, test_crop="square", test_crop_fraction=299 / 342, resize="antialias"
        )
        file.save(
            root / "w.safetensors",
            Card(Model("inception_v3", "torchvision"), data, 1000),
            jax.tree.map(np.asarray, variables),
        )
        predictor = Predictor(str(root / "w.safetensors"), batch_size=batch)
        run, own, *_ = load_trained(str(root / "w.safetensors"))
        pixels = jax.device_put(
            np.random.default_rng(0).integers(0, 256, (batch, 299, 299, 3), np.uint8),
            run.placement.batch_sharding,
        )

        def whole(share: list[Path]) -> float:
            begin = time.perf_counter()
            count = sum(row is not None for row in predictor.each(share))
            return count / (time.perf_counter() - begin)

        def bare(share: list[Path]) -> float:
            begin = time.perf_counter()
            for _ in range(-(-len(share) // batch)):
                results = np.asarray(run.predict_step(own, pixels))
            return -(-len(share) // batch) * len(results) / (time.perf_counter() - begin)

        whole(files[:batch])
        bare(files[:batch])
        size = len(files) // options.rounds // batch * batch
        rounds = []
        for i in range(options.rounds):
            share = files[i * size : (i + 1) * size]
            pair = (whole(share), bare(share)) if i % 2 else (bare(share), whole(share))[::-1]
            rounds.append(pair)
            print(
                f"round {i + 1}: {pair[0]:.2f} images/s, the bare network {pair[1]:.2f}", flush=True
            )
    ratios = [one / other for one, other in rounds]
    publish(
        options.results / "predict.json",
        {
            "images": size * options.rounds,
            "batch": batch,
            "images_per_second": round(statistics.median(one for one, _ in rounds), 2),
            "bare_images_per_second": round(statistics.median(other for _, other in rounds), 2),
            "ratio": {
                "median": round(statistics.median(ratios), 3),
                "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            },
        },
    )


if __name__ == "__main__":
    main()
