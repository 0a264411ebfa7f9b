"""The pictures of one run: learning curves, worst mistakes, and one held-out image to try `predict` on."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from PIL import Image

from inception_jax.logbook import read_metrics


def draw(workdir: Path) -> list[Path]:
    """Draws what `workdir` holds into `workdir/report`, and returns the files."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    files = [curves(read_metrics(workdir), folder / "curves.png")]
    if (workdir / "worst.npz").exists():
        with np.load(workdir / "worst.npz") as worst:
            files.append(mistakes(dict(worst), folder / "mistakes.png"))
            Image.fromarray(worst["example"]).save(folder / "example.png")
    return files


def curves(rows: list[dict[str, float]], file: Path) -> Path:
    """Loss, top-1 error and learning rate against epochs, of training batches and of held-out examples."""
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    panels = [("loss", "loss (nats)", False), ("top1", "top-1 error (%)", True), ("learning_rate", "learning rate", False)]
    for axis, (metric, label, error) in zip(axes, panels, strict=True):
        for name, style in (("train", {"color": "#8da0b3", "lw": 1}), ("val", {"color": "#c0392b", "marker": "o", "ms": 3.5})):
            points = [(row["step"], row[f"{name}/{metric}"]) for row in rows if f"{name}/{metric}" in row]
            if points:
                steps, values = np.array(points).T
                axis.plot(steps, 100 * (1 - values) if error else values, label={"train": "training", "val": "held out"}[name], **style)
        axis.set(xlabel="step", ylabel=label, yscale="log" if metric == "loss" else "linear")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(bottom=0, top=min(100, axes[1].get_ylim()[1]))
    axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file


def contact_sheet(before: np.ndarray, after: np.ndarray, names: list[str], file: Path) -> Path:
    """What the network sees: each example as it leaves the host, and under it as it enters the network."""
    columns = 8
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(2 * rows, columns, figsize=(1.35 * columns, 2.9 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        axes[2 * row, column].imshow(before[i])
        axes[2 * row, column].set_title(name, fontsize=8, color="#444444")
        axes[2 * row + 1, column].imshow(after[i])
    figure.suptitle("Training examples before, and under them after augmentation", fontsize=10)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file


def mistakes(worst: dict[str, Any], file: Path) -> Path:
    """The held-out examples that cost most, the costliest first: what they are, and what the network says."""
    images, labels, predictions, names = worst["image"], worst["label"], worst["prediction"], worst["class_names"]
    columns = 8
    rows = -(-len(images) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(1.35 * columns, 1.75 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label, prediction, share in zip(axes.flat, images, labels, predictions, worst["probability"], strict=False):
        axis.imshow(image)
        right = label == prediction
        verdict = f"{names[label]}, {share:.0%} sure" if right else f"{names[label]}, read as {names[prediction]}\n{share:.0%} sure"
        axis.set_title(verdict, fontsize=8, color="#444444" if right else "#c0392b")
    wrong = int((labels != predictions).sum())
    figure.suptitle(f"The {len(images)} held-out examples with the largest loss; {wrong} of them are mistakes", fontsize=10)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file
