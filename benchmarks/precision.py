"""Measures what bfloat16 costs in accuracy: `python benchmarks/precision.py [FOLDER] [--seeds 5]`.

The digits by their recipe from the same seeds: in float32 as the table says, and in bfloat16 with
the rewrites of a GPU, among them gradients of kernels in bfloat16. Every run keeps its workdir in
FOLDER (runs/precision), and a second start of the same line goes on where the first was ended.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import make_parser, publish
from inception_jax.models import get_architecture
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.recipes import load_recipe
from inception_jax.spec.rewrite import select_rewrites

RECIPE = "digits"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/precision"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=load_recipe(RECIPE).config.epochs)
    options = parser.parse_args()
    table = get_architecture(load_recipe(RECIPE).config.model.name)
    rewrites = {"bfloat16": select_rewrites(table, "gpu"), "float32": ()}
    found: dict[str, list[dict[str, float]]] = {dtype: [] for dtype in rewrites}
    for dtype in rewrites:
        for seed in range(options.seeds):
            workdir = options.folder / f"{dtype}_{seed}"
            line = [
                "train", RECIPE, "--model.dtype", dtype, "--model.rewrites", *rewrites[dtype],
                "--seed", str(seed), "--epochs", str(options.epochs), "--workdir", str(workdir),
            ]  # fmt: skip
            subprocess.run([sys.executable, "-m", "inception_jax.cli", *line], check=True)
            last = [row for row in read_metrics(workdir) if "val/top1" in row][-1]
            found[dtype].append({"seed": seed, "top1": last["val/top1"], "loss": last["val/loss"]})
    means = {dtype: statistics.mean(one["top1"] for one in runs) for dtype, runs in found.items()}
    publish(
        options.results / "precision.json",
        {
            "rewrites": rewrites,
            "runs": found,
            "mean_top1": means,
            "difference": means["bfloat16"] - means["float32"],
        },
    )


if __name__ == "__main__":
    main()
