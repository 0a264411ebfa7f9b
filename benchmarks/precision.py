"""What bfloat16 costs in accuracy: `python benchmarks/precision.py [FOLDER] [--seeds 3]`.

The digits by their recipe, with activations in float32 and in bfloat16, from the same seeds. Every
run keeps its workdir in FOLDER (runs/precision), and a second start of the same line goes on where
the first was ended.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import make_parser, publish
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.recipes import load_recipe

DTYPES = ("float32", "bfloat16")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/precision"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=load_recipe("digits").config.epochs)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {dtype: [] for dtype in DTYPES}
    for seed in range(options.seeds):
        for dtype in DTYPES:
            workdir = options.folder / f"{dtype}_{seed}"
            line = [
                "train", "digits", "--model.dtype", dtype, "--seed", str(seed), "--epochs",
                str(options.epochs), "--workdir", str(workdir),
            ]  # fmt: skip
            subprocess.run([sys.executable, "-m", "inception_jax.cli", *line], check=True)
            last = [row for row in read_metrics(workdir) if "val/top1" in row][-1]
            found[dtype].append({"seed": seed, "top1": last["val/top1"], "loss": last["val/loss"]})
    means = {dtype: statistics.mean(one["top1"] for one in runs) for dtype, runs in found.items()}
    publish(
        options.results / "precision.json",
        {"runs": found, "mean_top1": means, "difference": means["bfloat16"] - means["float32"]},
    )


if __name__ == "__main__":
    main()
