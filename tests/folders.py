"""Folders of small images, as a person makes them: `<root>/<split>/<class>/<number>.png`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": 12, "test": 5}
TRAIN = (
    "digits",
    "--import",
    "benchmarks.registered",
    "--model.name",
    "one",
    "--data.name",
    "folder",
    "--data.image-size",
    "16",
    "--data.margin",
    "1",
    "--data.threads",
    "0",
    "--batch-size",
    "8",
    "--schedule.warmup-epochs",
    "0",
    "--workdir",
    "run",
)
"""A line that trains on such a folder, without its place and length."""


def make_images(
    root: Path, classes: tuple[str, ...] = ("ant", "bee"), splits: Mapping[str, int] = SPLITS
) -> Path:
    """Writes so many images of each class into each split, classes being brighter one after the
    other; returns `root`.
    """
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = np.clip(rng.normal(60 + 60 * label, 30, (16, 16, 3)), 0, 255).astype(
                    np.uint8
                )
                Image.fromarray(image).save(root / split / name / f"{i:02d}.png")
    return root
