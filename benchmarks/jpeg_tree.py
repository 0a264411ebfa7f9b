"""A tree of 10,000 JPEGs from end to end.

    python benchmarks/jpeg_tree.py [--train 9000] [--test 1000]

Makes training and held-out photographs in two classes, prepares them, checks them, trains a small
network on them for an epoch with `train.py`, and evaluates: each step by its command, each timed,
and every held-out image counted once.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, make_parser, publish
from benchmarks.photographs import photographs
from inception_jax.monitoring.metrics_log import read_metrics


def command(*arguments: Any) -> tuple[str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout, round(time.perf_counter() - began, 1)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--train", type=int, default=9_000, help="images")
    parser.add_argument("--test", type=int, default=1_000, help="images")
    options = parser.parse_args()
    splits = {"train": options.train, "test": options.test}
    with tempfile.TemporaryDirectory() as name:
        folder, seconds = Path(name), {}
        for seed, (split, count) in enumerate(splits.items()):
            for i, (image, label) in enumerate(photographs(count, seed)):
                file = folder / "tree" / split / ("temple", "flower")[label] / f"{i:05d}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(image)
        module = ("-m", "inception_jax.cli")
        said, seconds["prepare"] = command(
            *module, "data", "prepare", folder / "tree", folder / "records"
        )
        assert f"train: {options.train:,} examples" in said, said
        data = [
            "digits", "--data.name", "records", "--data.directory", folder / "records",
            "--data.crop", "area", "--data.flip", "--data.test-crop", "square", "--data.margin", 0,
            "--data.translate", 0, "--data.scale", 0, "--data.rotate", 0, "--data.shear", 0,
        ]  # fmt: skip
        said, seconds["check"] = command(*module, "data", "check", *data)
        assert f"train: {options.train:,} examples of 2 classes" in said, said
        run = ["--epochs", 1, "--workdir", folder / "run"]
        said, seconds["train one epoch"] = command("train.py", *data, *run)
        steps = read_metrics(folder / "run")
        said, seconds["evaluate"] = command(*module, "evaluate", folder / "run", "--json")
        found = json.loads(said)
        assert found["count"] == options.test, found
        publish(
            options.results / "jpeg_tree.json",
            {
                "images": splits,
                "seconds": seconds,
                "steps": steps[-1]["step"],
                "held_out_evaluated": found["count"],
                "held_out_top1": found["top1"],
                "data_wait_fractions": [
                    round(row["perf/data_wait_fraction"], 3)
                    for row in steps
                    if "perf/data_wait_fraction" in row
                ][-5:],
            },
        )


if __name__ == "__main__":
    main()
