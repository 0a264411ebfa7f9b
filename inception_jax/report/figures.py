"""The pictures of a run: learning curves, worst mistakes, one held-out image to try `predict` on; and of several runs together."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from inception_jax.atomic_io import StorageError, write_atomically
from inception_jax.report.artifacts import load_run_artifacts
from inception_jax.report.comparison import Curve

matplotlib.rcParams["text.parse_math"] = False  # to matplotlib the class `$5 to $10` is a formula


def draw_report(workdir: Path) -> list[Path]:
    """Draws what `workdir` holds into `workdir/report`, and returns the files. A picture that cannot be drawn is left out, with a warning.

    Raises:
      StorageError: a file cannot be written.
      ConfigError, MetricsError, UnreadableError: what `load_run_artifacts` raises, before anything is drawn.
    """
    found, folder = load_run_artifacts(workdir), workdir / "report"
    folder.mkdir(exist_ok=True)
    pictures: dict[str, Callable[[Path], Path]] = {"curves.png": partial(draw_curves, found.rows)}
    if found.worst:
        pictures |= {
            "mistakes.png": partial(draw_mistakes, found.worst),
            "example.png": partial(_image, found.worst["example"]),
        }
    if found.health:
        pictures["health.png"] = partial(draw_drift, found.health)
    files = []
    for name, draw_into in pictures.items():
        try:
            files.append(draw_into(folder / name))
        except StorageError:
            raise
        except Exception as error:  # from the depths of matplotlib, of any class
            logging.getLogger(__name__).warning(
                "%s cannot be drawn (%s: %s)", folder / name, type(error).__name__, error
            )
    return [
        file for file in files if file.name != "example.png"
    ]  # which is to be tried, not to be looked at


def _image(pixels: np.ndarray, file: Path) -> Path:
    image = io.BytesIO()
    Image.fromarray(pixels).save(image, "PNG")
    write_atomically(file, image.getvalue())
    return file


def draw_curves(rows: list[dict[str, float]], file: Path) -> Path:
    """Loss, top-1 error and learning rate against epochs, of training batches and of held-out examples."""
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    panels = [
        ("loss", "loss (nats)", False),
        ("top1", "top-1 error (%)", True),
        ("learning_rate", "learning rate", False),
    ]
    for axis, (metric, label, error) in zip(axes, panels, strict=True):
        for name, style in (
            ("train", {"color": "#8da0b3", "lw": 1}),
            ("val", {"color": "#c0392b", "marker": "o", "ms": 3.5}),
        ):
            points = [
                (row["step"], row[f"{name}/{metric}"]) for row in rows if f"{name}/{metric}" in row
            ]
            if points:
                steps, values = np.array(points).T
                axis.plot(
                    steps,
                    100 * (1 - values) if error else values,
                    label={"train": "training", "val": "held out"}[name],
                    **style,
                )
        axis.set(xlabel="step", ylabel=label, yscale="log" if metric == "loss" else "linear")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(bottom=0, top=min(100, axes[1].get_ylim()[1]))
    axes[0].legend(frameon=False)
    return _written(figure, file)


def draw_comparison(found: Sequence[Curve], file: Path) -> Path:
    """Held-out accuracy and loss against steps: of each name the median of its runs, between the lowest and the highest of them."""
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for i, name in enumerate(dict.fromkeys(one.name for one in found)):
        runs = [one for one in found if one.name == name]
        for axis, values in zip(
            axes, ([100 * one.smoothed_top1 for one in runs], [one.loss for one in runs]), strict=True
        ):
            steps = np.unique(np.concatenate([one.steps for one in runs]))
            lines = np.array(
                [
                    np.interp(steps, one.steps, line, right=np.nan)
                    for one, line in zip(runs, values, strict=True)
                ]
            )
            known = ~np.isnan(lines).all(0)
            steps, lines = steps[known], lines[:, known]
            axis.plot(steps, np.nanmedian(lines, 0), color=f"C{i}", lw=1.6, label=name)
            axis.fill_between(
                steps, np.nanmin(lines, 0), np.nanmax(lines, 0), color=f"C{i}", alpha=0.15, lw=0
            )
    for axis, label, scale in zip(
        axes,
        ("held-out top-1 (%), mean of five evaluations", "held-out loss (nats)"),
        ("linear", "log"),
        strict=True,
    ):
        axis.set(xlabel="step", ylabel=label, yscale=scale)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    return _written(figure, file)


def draw_drift(found: Mapping[str, Any], file: Path) -> Path:
    """How far each layer's running statistics are from the population's, by their names."""
    layers = sorted(found["layers"], key=lambda one: one["name"])
    figure, axes = pyplot.subplots(
        1, 2, figsize=(11, 1.2 + 0.16 * len(layers)), layout="constrained", sharey=True
    )
    for axis, measure, label in (
        (axes[0], "mean", "largest difference of means (deviations)"),
        (axes[1], "variance", "largest |log of ratio| of variances"),
    ):
        axis.barh(
            [one["name"] for one in layers],
            [one[measure] for one in layers],
            color="#2c7fb8",
            height=0.7,
        )
        axis.set(xlabel=label)
        axis.tick_params(axis="y", labelsize=6)
        axis.grid(alpha=0.25, axis="x")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    axes[0].margins(y=0.01)
    figure.suptitle(
        f"Top-1 under running statistics {found['running']:.2%}, under the population's {found['population']:.2%}",
        fontsize=10,
    )
    return _written(figure, file)


def draw_contact_sheet(before: np.ndarray, after: np.ndarray, names: list[str], file: Path) -> Path:
    """What the network sees: each example as it leaves the host, and under it as it enters the network."""
    columns = 8
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        2 * rows, columns, figsize=(1.35 * columns, 2.9 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        axes[2 * row, column].imshow(before[i])
        axes[2 * row, column].set_title(name, fontsize=8, color="#444444")
        axes[2 * row + 1, column].imshow(after[i])
    figure.suptitle("Training examples before, and under them after augmentation", fontsize=10)
    return _written(figure, file)


def draw_mistakes(worst: dict[str, Any], file: Path) -> Path:
    """The held-out examples that cost most, the costliest first: what they are, and what the network says."""
    images, labels, predictions, names = (
        worst["image"],
        worst["label"],
        worst["prediction"],
        worst["class_names"],
    )
    columns = 8
    rows = -(-len(images) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1.35 * columns, 1.75 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label, prediction, share in zip(
        axes.flat, images, labels, predictions, worst["probability"], strict=False
    ):
        axis.imshow(image)
        right = label == prediction
        verdict = (
            f"{names[label]}, {share:.0%} sure"
            if right
            else f"{names[label]}, read as {names[prediction]}\n{share:.0%} sure"
        )
        axis.set_title(verdict, fontsize=8, color="#444444" if right else "#c0392b")
    wrong = int((labels != predictions).sum())
    figure.suptitle(
        f"The {len(images)} held-out examples with the largest loss; {wrong} of them are mistakes",
        fontsize=10,
    )
    return _written(figure, file)


def _written(figure: Figure, file: Path) -> Path:
    """Writes a picture as a PNG file, whole, and forgets it."""
    image = io.BytesIO()
    try:
        figure.savefig(image, dpi=110, format="png")
    finally:
        pyplot.close(figure)
    write_atomically(file, image.getvalue())
    return file
