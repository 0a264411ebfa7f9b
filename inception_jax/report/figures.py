"""The figures of a report: learning curves, mistakes, batch norm drift, and compared runs."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from inception_jax.atomic_io import StorageError, write_atomically
from inception_jax.report.artifacts import load_run_artifacts
from inception_jax.report.comparison import Curve

# Class names such as `$5 to $10` are no formulas.
matplotlib.rcParams["text.parse_math"] = False

COLUMNS = 8
"""The number of images in a row."""
MAX_NAMED_CLASSES = 40
"""The largest number of classes whose names fit beside a confusion matrix."""
GREY, RED = "#444444", "#c0392b"


def draw_report(workdir: Path) -> list[Path]:
    """Draws the figures of a run into `workdir/report`, and returns their files.

    A figure that cannot be drawn is left out, with a warning. `example.png`, one held-out image to
    try `predict` on, is written but not returned.

    Raises:
      StorageError: A file cannot be written.
      ConfigError, MetricsError, UnreadableError: See `load_run_artifacts`; nothing is drawn.
    """
    artifacts, folder = load_run_artifacts(workdir), workdir / "report"
    folder.mkdir(exist_ok=True)
    draw_by_name: dict[str, Callable[[Path], Path]] = {
        "curves.png": partial(draw_curves, artifacts.rows)
    }
    if artifacts.worst:
        draw_by_name["mistakes.png"] = partial(draw_mistakes, artifacts.worst)
        draw_by_name["example.png"] = partial(_write_image, artifacts.worst["example"])
    if artifacts.health:
        draw_by_name["health.png"] = partial(draw_drift, artifacts.health)
    return [file for file in draw_each(draw_by_name, folder) if file.name != "example.png"]


def draw_each(draw_by_name: Mapping[str, Callable[[Path], Path]], folder: Path) -> list[Path]:
    """Draws figures into a folder; one that cannot be drawn is left out, with a warning.

    Args:
      draw_by_name: Name of a file -> function that draws it.
      folder: The folder.

    Raises:
      StorageError: A file cannot be written.
    """
    files = []
    for name, draw in draw_by_name.items():
        try:
            files.append(draw(folder / name))
        except StorageError:
            raise
        except Exception as error:  # matplotlib raises many classes
            logging.getLogger(__name__).warning(
                "%s cannot be drawn (%s: %s)", folder / name, type(error).__name__, error
            )
    return files


def draw_curves(rows: list[dict[str, float]], file: Path) -> Path:
    """Draws loss, top-1 error and learning rate by step, for training and held-out examples."""
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    panels = [
        ("loss", "loss (nats)", "log"),
        ("top1", "top-1 error (%)", "linear"),
        ("learning_rate", "learning rate", "linear"),
    ]
    splits = {
        "train": {"label": "training", "color": "#8da0b3", "lw": 1},
        "val": {"label": "held out", "color": RED, "marker": "o", "ms": 3.5},
    }
    for axis, (metric, label, scale) in zip(axes, panels, strict=True):
        for split, style in splits.items():
            name = f"{split}/{metric}"
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                steps, values = np.array(points).T
                if metric == "top1":
                    values = 100 * (1 - values)
                axis.plot(steps, values, **style)
        style_axis(axis, xlabel="step", ylabel=label, yscale=scale)
    axes[1].set_ylim(bottom=0, top=min(100, axes[1].get_ylim()[1]))
    axes[0].legend(frameon=False)
    return write_figure(figure, file)


def draw_comparison(curves: Sequence[Curve], file: Path) -> Path:
    """Draws held-out accuracy and loss by step: the median and the range of each name's runs."""
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for i, name in enumerate(dict.fromkeys(curve.name for curve in curves)):
        runs = [curve for curve in curves if curve.name == name]
        _draw_range(axes[0], runs, [100 * run.smoothed_top1 for run in runs], f"C{i}", name)
        _draw_range(axes[1], runs, [run.loss for run in runs], f"C{i}", name)
    label = "held-out top-1 (%), mean of five evaluations"
    style_axis(axes[0], xlabel="step", ylabel=label, yscale="linear")
    style_axis(axes[1], xlabel="step", ylabel="held-out loss (nats)", yscale="log")
    axes[0].legend(frameon=False)
    return write_figure(figure, file)


def _draw_range(
    axis: Axes, runs: Sequence[Curve], values: Sequence[np.ndarray], color: str, label: str
) -> None:
    """Draws the median and the range of `values` over several runs, by step."""
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    lines = np.array(
        [
            np.interp(steps, run.steps, line, right=np.nan)
            for run, line in zip(runs, values, strict=True)
        ]
    )
    is_known = ~np.isnan(lines).all(0)
    steps, lines = steps[is_known], lines[:, is_known]
    low, high = np.nanmin(lines, 0), np.nanmax(lines, 0)
    axis.plot(steps, np.nanmedian(lines, 0), color=color, lw=1.6, label=label)
    axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)


def draw_drift(health: Mapping[str, Any], file: Path) -> Path:
    """Draws the drift of each layer's running statistics from those of the population."""
    layers = sorted(health["layers"], key=lambda layer: layer["name"])
    names = [layer["name"] for layer in layers]
    size = (11, 1.2 + 0.16 * len(layers))
    figure, axes = pyplot.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    panels = [
        ("mean", "largest difference of means (deviations)"),
        ("variance", "largest |log of ratio| of variances"),
    ]
    for axis, (measure, label) in zip(axes, panels, strict=True):
        axis.barh(names, [layer[measure] for layer in layers], color="#2c7fb8", height=0.7)
        axis.tick_params(axis="y", labelsize=6)
        style_axis(axis, grid="x", xlabel=label)
    axes[0].invert_yaxis()
    axes[0].margins(y=0.01)
    figure.suptitle(
        f"Top-1 under running statistics {health['running']:.2%}, "
        f"under the population's {health['population']:.2%}",
        fontsize=10,
    )
    return write_figure(figure, file)


def draw_contact_sheet(before: np.ndarray, after: np.ndarray, names: list[str], file: Path) -> Path:
    """Draws training examples before augmentation, and each below it after augmentation.

    Args:
      before: uint8 [N, S, S, 3].
      after: uint8 [N, S, S, 3].
      names: The classes of the examples.
      file: The PNG file to write.
    """
    rows = -(-len(names) // COLUMNS)
    figure, axes = make_image_grid(2 * rows, height=1.45)
    for i, name in enumerate(names):
        row, column = divmod(i, COLUMNS)
        axes[2 * row, column].imshow(before[i])
        axes[2 * row, column].set_title(name, fontsize=8, color=GREY)
        axes[2 * row + 1, column].imshow(after[i])
    figure.suptitle("Training examples before, and under them after augmentation", fontsize=10)
    return write_figure(figure, file)


def draw_mistakes(worst: Mapping[str, np.ndarray], file: Path) -> Path:
    """Draws the held-out examples with the largest loss: their classes and predictions."""
    images, labels, predictions = worst["image"], worst["label"], worst["prediction"]
    names = worst["class_names"]
    figure, axes = make_image_grid(-(-len(images) // COLUMNS), height=1.75)
    for axis, image, label, prediction, probability in zip(
        axes.flat, images, labels, predictions, worst["probability"], strict=False
    ):
        axis.imshow(image)
        title, color = f"{names[label]}, {probability:.0%} sure", GREY
        if label != prediction:
            title = f"{names[label]}, read as {names[prediction]}\n{probability:.0%} sure"
            color = RED
        axis.set_title(title, fontsize=8, color=color)
    num_wrong = int((labels != predictions).sum())
    figure.suptitle(
        f"The {len(images)} held-out examples with the largest loss; "
        f"{num_wrong} of them are mistakes",
        fontsize=10,
    )
    return write_figure(figure, file)


def draw_confusions(table: np.ndarray, class_names: Sequence[str], file: Path) -> Path:
    """Draws a confusion matrix, with each row as fractions of its class.

    Names and numbers are written where there is room for them.

    Args:
      table: [K, K] the number of examples of the row's class that are predicted as the column's.
      file: The PNG file to write.
    """
    count = len(class_names)
    side = min(max(4.0, 0.45 * count), 16.0)
    figure, axis = pyplot.subplots(figsize=(side, side), layout="constrained")
    fractions = table / np.maximum(table.sum(1, keepdims=True), 1)
    axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted class", ylabel="class")
    if count <= MAX_NAMED_CLASSES:
        axis.set_xticks(range(count), class_names, rotation=90, fontsize=8)
        axis.set_yticks(range(count), class_names, fontsize=8)
        for row, column in zip(*np.nonzero(table), strict=True):
            color = "white" if fractions[row, column] > 0.5 else GREY
            text = str(table[row, column])
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return write_figure(figure, file)


def make_image_grid(rows: int, *, height: float) -> tuple[Figure, np.ndarray]:
    """Returns a figure with empty axes for `rows` rows of images, each `height` inches high."""
    size = (1.35 * COLUMNS, height * rows)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def style_axis(axis: Axes, *, grid: Literal["both", "x", "y"] = "both", **labels: str) -> None:
    """Sets labels, a faint grid, and no frame at the top and at the right."""
    axis.set(**labels)
    axis.grid(alpha=0.25, axis=grid)
    axis.spines[["top", "right"]].set_visible(False)


def _write_image(pixels: np.ndarray, file: Path) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomically(file, buffer.getvalue())
    return file


def write_figure(figure: Figure, file: Path) -> Path:
    """Writes a figure as a PNG file and closes it."""
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, dpi=110, format="png")
    finally:
        pyplot.close(figure)
    write_atomically(file, buffer.getvalue())
    return file
