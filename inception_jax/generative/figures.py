"""The pictures of a score: both sets, nearest neighbours, principal components, FID against N."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from PIL import Image

from inception_jax.generative.frechet import extrapolate
from inception_jax.generative.scores import Score
from inception_jax.report.figures import (
    COLUMNS,
    GREY,
    RED,
    make_image_grid,
    style_axis,
    write_figure,
)

THUMBNAIL = 128
"""Pixels of the longer side of an image in a picture."""
BLUE = "#2c6fbb"
MAX_POINTS = 2000
"""Images of each set in a scatter plot."""


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Returns an image [H, W, 3] uint8 of at most `THUMBNAIL` pixels on a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image)


def draw_image_sheet(images: Sequence[np.ndarray], title: str, file: Path) -> Path:
    """Draws images [H, W, 3] uint8 in rows, into a PNG file."""
    rows = max(1, -(-len(images) // COLUMNS))
    figure, axes = make_image_grid(rows, height=1.35)
    for axis, image in zip(axes.flat, images, strict=False):
        axis.imshow(image)
    figure.suptitle(title, fontsize=10)
    return write_figure(figure, file)


def draw_neighbours(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], distances: Sequence[float], file: Path
) -> Path:
    """Draws generated images above their nearest real ones, with the distances of features."""
    figure, axes = make_image_grid(2, height=1.6)
    for column, ((fake, real), distance) in enumerate(zip(pairs, distances, strict=True)):
        axes[0, column].imshow(fake)
        axes[1, column].imshow(real)
        axes[0, column].set_title(f"{distance:.3g}", fontsize=8, color=GREY)
    figure.suptitle(
        "Generated images that are nearest to a real one (above), and that one (below)", fontsize=10
    )
    return write_figure(figure, file)


def draw_components(real: np.ndarray, fake: np.ndarray, file: Path) -> Path:
    """Draws both sets [N, d] in the first two principal components of the real features."""
    step = [max(1, len(rows) // MAX_POINTS) for rows in (real, fake)]
    own = np.asarray(real[:: step[0]], np.float64)
    others = np.asarray(fake[:: step[1]], np.float64)
    mean = own.mean(0)
    _, singular, components = np.linalg.svd(own - mean, full_matrices=False)
    share = np.square(singular[:2]).sum() / np.square(singular).sum()
    figure, axis = pyplot.subplots(figsize=(6.5, 5), layout="constrained")
    for rows, color, label in ((own, BLUE, "real"), (others, RED, "generated")):
        places = (rows - mean) @ components[:2].T
        axis.scatter(
            places[:, 0], places[:, 1], s=6, alpha=0.4, color=color, label=label, linewidths=0
        )
    style_axis(axis, xlabel="first component", ylabel="second component")
    axis.legend(frameon=False)
    figure.suptitle(f"Two principal components of the real features ({share:.0%} of variance)")
    return write_figure(figure, file)


def draw_sizes(sizes: Sequence[int], distances: Sequence[float], file: Path) -> Path:
    """Draws FID against 1/N of random parts of the generated set, and the line to infinity."""
    figure, axis = pyplot.subplots(figsize=(6.5, 4), layout="constrained")
    inverse = 1 / np.asarray(sizes, np.float64)
    line = extrapolate(sizes, distances)
    ends = np.array([0, inverse.max()])
    axis.plot(ends, line.intercept + line.gradient * ends, color=GREY, linewidth=1)
    axis.scatter(inverse, distances, color=RED, s=18, zorder=3)
    axis.set_xticks(inverse, [f"{size:,}" for size in sizes], rotation=60, fontsize=7)
    style_axis(axis, xlabel="generated images (at distances of 1/N)", ylabel="FID")
    axis.set_title(
        f"FID of random parts; the line meets 1/N = 0 at {line.intercept:.4g}", fontsize=10
    )
    return write_figure(figure, file)


def draw_score_comparison(scores: Mapping[str, Score], metric: str, file: Path) -> Path:
    """Draws the scores of several sets, with their intervals of 95 % and their bias."""
    figure, axis = pyplot.subplots(figsize=(7, 1 + 0.4 * len(scores)), layout="constrained")
    places = np.arange(len(scores))[::-1]
    for place, score in zip(places, scores.values(), strict=True):
        axis.errorbar(score.value, place, xerr=score.half_width or 0, fmt="o", color=RED, capsize=3)
        if score.bias:
            axis.scatter(score.value - score.bias, place, marker="|", s=120, color=BLUE)
    axis.set_yticks(places, list(scores))
    style_axis(axis, grid="x", xlabel=f"{metric} (bars: 95 %; blue: less its bias)")
    return write_figure(figure, file)
