"""Measures fine-tuning with few images: MNIST from Fashion-MNIST's network, and the reverse.

    python benchmarks/finetune.py MNIST_DIR FASHION_MNIST_DIR [--seeds 3] [--pictures 20]

The folders hold the four IDX files of each set. A network is trained on each whole set; it is then
fine-tuned on `--pictures` images of each class of the other set, and all 10,000 test images are
held out. The peers learn from the same images: the same network from random initialisation, and a
logistic regression on pixels. The regression's L2 is the best of four on the held-out images, which
favours it. Training from scratch has the optimiser, the steps and the distortion of fine-tuning;
both learning rates are the best of three in one trial beforehand.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import make_parser, publish
from inception_jax.data.idx import open_idx
from inception_jax.data.source import ArraySource
from inception_jax.finetuning.classifier import fit_classifier

PIXEL_L2 = (1e-3, 1e-2, 1e-1, 1.0)
TUNED_RATE, SCRATCH_RATE = 0.1, 0.2
MOVES = 2, 10
"""Pixels and degrees by which training images move and rotate, in fine-tuning and from scratch."""

SCRATCH_FLAGS: list[Any] = [
    "--optimizer.name", "momentum", "--optimizer.learning-rate", SCRATCH_RATE, "--optimizer.l2",
    1e-4, "--optimizer.clip-norm", 1, "--optimizer.average-decay", 0, "--schedule.name",
    "cosine", "--objective.label-smoothing", 0, "--batch-size", 32,
    "--norm.examples-per-group", 0, "--model.dropout-rate", 0,
]  # fmt: skip


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=20, help="of each class")
    parser.add_argument("--base-epochs", type=float, default=2)
    parser.add_argument("--epochs", type=float, help="of fine-tuning; default: finetune's")
    parser.add_argument("--scratch-epochs", type=float, default=100)
    options = parser.parse_args()
    sets = {"mnist": options.mnist.resolve(), "fashion_mnist": options.fashion.resolve()}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, directory in sets.items():
            line = ["--data.name", "idx", "--data.directory", directory, "--workdir", name]
            line += ["--epochs", options.base_epochs, *_get_network_flags()]
            run(root, "train", "digits", *line)
        for name, base in (("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")):
            rows = [
                measure(root, name, sets[name], base, seed, options)
                for seed in range(options.seeds)
            ]
            results[f"{name} from {base}"] = {"seeds": rows, "mean": _average(rows)}
    figures = {
        "pictures_of_each_class": options.pictures, "base_epochs": options.base_epochs,
        "scratch_epochs": options.scratch_epochs, "results": results,
    }  # fmt: skip
    publish(options.results / "finetune.json", figures)


def _get_network_flags() -> list[Any]:
    """Returns the flags of a run on images without a frame, which are not distorted much."""
    pixels, degrees = MOVES
    return [
        "--data.margin", 0, "--data.scale", 0, "--data.shear", 0, "--data.translate", pixels,
        "--data.rotate", degrees, "--evaluate-every-epochs", 0, "--checkpoint-every-epochs", 0,
    ]  # fmt: skip


def measure(
    root: Path, name: str, directory: Path, base: str, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Returns held-out accuracies in percent of each way to learn from the same few images."""
    train, test = (open_idx(split, str(directory)) for split in ("train", "test"))
    few = choose_images(train, options.pictures, seed)
    folder = root / f"{name}-{seed}"
    write_images(few, folder / "train")
    write_images(test, folder / "test")
    pixels, degrees = MOVES
    line = ["--no-flip", "--translate", pixels, "--rotate", degrees, "--seed", seed]
    line += ["--learning-rate", TUNED_RATE]
    if options.epochs:
        line += ["--epochs", options.epochs]
    began = time.monotonic()
    tuned = run(root, "finetune", base, folder, *line)
    seconds = time.monotonic() - began
    scratch = run(
        root, "train", "digits", "--data.name", "folder", "--data.directory", folder,
        "--workdir", f"scratch-{name}-{seed}", "--epochs", options.scratch_epochs,
        "--seed", seed, *_get_network_flags(), *SCRATCH_FLAGS,
        "--schedule.warmup-epochs", 0.05 * options.scratch_epochs,
    )  # fmt: skip
    row = {
        "fine_tuned": _read_percent(r"held-out top-1 ([\d.]+)%", tuned),
        "head_only": _read_percent(r"the classifier alone ([\d.]+)%", tuned),
        "from_scratch": _read_percent(r"held-out top-1 ([\d.]+)%", scratch),
        "pixels": score_pixels(few, test),
        "seconds": round(seconds, 1),
    }
    print(name, seed, row, flush=True)
    return row


def choose_images(source: ArraySource, count: int, seed: int) -> ArraySource:
    """Returns `count` images of each class."""
    rng, labels = np.random.default_rng(seed), source.labels
    parts = [
        rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)
    ]
    chosen = np.concatenate(parts)
    return ArraySource(source.images[chosen], labels[chosen], source.class_names)


def write_images(source: ArraySource, folder: Path) -> None:
    """Writes images as `<folder>/<class>/<number>.png`."""
    from PIL import Image

    for number, (pixels, label) in enumerate(zip(source.images, source.labels, strict=True)):
        file = folder / source.class_names[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)


def score_pixels(train: ArraySource, test: ArraySource) -> float:
    """Returns the held-out accuracy of a logistic regression on pixels, in percent."""
    inputs = [source.images.reshape(len(source), -1) / np.float32(255) for source in (train, test)]
    classes = len(train.class_names)
    scores = [
        (fit_classifier(inputs[0], train.labels, classes, l2=l2).predict(inputs[1]) == test.labels)
        for l2 in PIXEL_L2
    ]
    return round(100 * max(float(score.mean()) for score in scores), 2)


def run(folder: Path, *arguments: Any) -> str:
    """Runs `inception-jax ARGUMENTS` in a folder and returns its standard output."""
    command = [sys.executable, "-m", "inception_jax", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _read_percent(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def _average(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.mean(row[name] for row in rows), 2) for name in rows[0]}


if __name__ == "__main__":
    main()
