"""The page of a score: the numbers, what they are of, and the pictures, in one file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path

import numpy as np

from inception_jax.data.source import DataError
from inception_jax.errors import escape_control_characters
from inception_jax.generative import figures
from inception_jax.generative.decoding import decode_rgb
from inception_jax.generative.evaluator import format_score
from inception_jax.generative.feature_set import FeatureSet
from inception_jax.generative.frechet import compute_distances_by_size
from inception_jax.generative.image_sets import ImageSet
from inception_jax.generative.metrics import choose_curve_sizes
from inception_jax.generative.neighbours import find_nearest
from inception_jax.generative.presets import Preset
from inception_jax.generative.scores import Score
from inception_jax.report.figures import draw_each
from inception_jax.report.page import format_picture, format_table, write_html

SHEET = 4 * figures.COLUMNS
"""Images on a contact sheet."""
MAX_LOOKED_AT = 2000
"""Generated images whose nearest real one is looked for, for the picture of neighbours."""
CURVE_IMAGES = 10_000
"""Images that the curve of FID against N goes to: each of its points takes a root."""
SHOWN_FACTS = (
    "num_images", "image_size", "preset", "resize", "network", "weights", "weights_release",
    "engine", "platform", "precision",
)  # fmt: skip


def write_score_page(
    folder: Path,
    scores: Mapping[str, Score],
    preset: Preset,
    sets: tuple[FeatureSet, FeatureSet],
    images: tuple[ImageSet | None, ImageSet | None],
) -> Path:
    """Writes the page on a comparison of two sets to `folder/index.html`, and its pictures.

    A picture that cannot be drawn is left out, with a warning.

    Args:
      folder: The folder, which is made where it is not there.
      scores: The scores by name.
      preset: The settings.
      sets: The reference and the generated set.
      images: Their images, where they are at hand.

    Raises:
      StorageError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _draw(folder, preset, sets, images)
    real, fake = sets
    title = f"{fake.name} against {real.name}"
    rows = [(name, format_score(score), "; ".join(score.notes)) for name, score in scores.items()]
    facts = [
        (fact, *(escape_control_characters(one.facts.get(fact, "")) for one in sets))
        for fact in SHOWN_FACTS
    ]
    notes = [f"{one.name}: {note}" for one in sets for note in one.notes]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>preset {escape(preset.id)} ({escape(preset.program)})</p>",
        format_table(("score", "value, 95 % interval, bias, images", ""), rows),
        *[f"<p>{escape(escape_control_characters(note))}</p>" for note in notes],
        *map(format_picture, pictures),
        "<h2>What was compared</h2>",
        format_table(("", "real", "generated"), facts),
    ]
    return write_html(title, parts, folder / "index.html")


def _draw(
    folder: Path,
    preset: Preset,
    sets: tuple[FeatureSet, FeatureSet],
    images: tuple[ImageSet | None, ImageSet | None],
) -> list[Path]:
    real, fake = sets
    draw: dict[str, Callable[[Path], Path]] = {}
    for name, one, own in zip(("real", "generated"), sets, images, strict=True):
        if own is not None:
            draw[f"{name}.png"] = partial(_draw_sheet, one, own)
    if real.features is not None and fake.features is not None:
        if images[0] is not None and images[1] is not None:
            draw["neighbours.png"] = partial(_draw_neighbours, sets, (images[0], images[1]))
        draw["components.png"] = partial(figures.draw_components, real.features, fake.features)
    if fake.features is not None and len(fake.features) >= 20:
        draw["fid_against_n.png"] = partial(_draw_sizes, real, fake.features, preset)
    return draw_each(draw, folder)


def _load(one: FeatureSet, images: ImageSet, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """Returns small pictures of the images behind rows of features, by row; read in order."""
    found = {}
    for row in sorted(set(rows)):
        item = images.load(int(row if one.rows is None else one.rows[row]))
        if isinstance(item, np.ndarray) and item.dtype != np.uint8:
            raise DataError("floats are not drawn")
        found[row] = figures.shrink(decode_rgb(item).pixels)
    return found


def _draw_sheet(one: FeatureSet, images: ImageSet, file: Path) -> Path:
    count = len(images) if one.rows is None else len(one.rows)
    rows = np.linspace(0, count - 1, min(SHEET, count)).astype(int).tolist()
    pictures = list(_load(one, images, rows).values())
    title = f"{len(pictures)} of {count:,} images of {one.name}"
    return figures.draw_image_sheet(pictures, escape_control_characters(title), file)


def _draw_neighbours(
    sets: tuple[FeatureSet, FeatureSet], images: tuple[ImageSet, ImageSet], file: Path
) -> Path:
    real, fake = sets
    assert real.features is not None
    assert fake.features is not None
    # All pairs of 50,000 would take minutes for a picture.
    looked_at = np.arange(0, len(fake.features), -(-len(fake.features) // MAX_LOOKED_AT))
    nearest = find_nearest(real.features, fake.features[looked_at])
    order = np.argsort(nearest.distance, kind="stable")[: figures.COLUMNS]
    chosen = looked_at[order].tolist()
    own = nearest.index[order].tolist()
    first, second = _load(fake, images[1], chosen), _load(real, images[0], own)
    pairs = [(first[i], second[j]) for i, j in zip(chosen, own, strict=True)]
    return figures.draw_neighbours(pairs, nearest.distance[order].tolist(), file)


def _draw_sizes(real: FeatureSet, features: np.ndarray, preset: Preset, file: Path) -> Path:
    sizes = choose_curve_sizes(min(len(features), CURVE_IMAGES))
    distances = compute_distances_by_size(real.moments, features, sizes, ddof=preset.ddof)
    return figures.draw_sizes(sizes, distances, file)


def write_comparison(
    folder: Path, reference: FeatureSet, scores: Mapping[str, Mapping[str, Score]], preset: Preset
) -> Path:
    """Writes the page that compares several sets with one reference, and its pictures.

    Args:
      folder: The folder, which is made where it is not there.
      reference: The reference.
      scores: Set -> score by name.
      preset: The settings.

    Raises:
      StorageError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(next(iter(scores.values())))
    pictures = []
    for name in names:
        by_set = {label: found[name] for label, found in scores.items()}
        pictures.append(figures.draw_score_comparison(by_set, name, folder / f"{name}.png"))
    rows = [
        (label, *(format_score(found[name]) for name in names)) for label, found in scores.items()
    ]
    title = f"Sets against {reference.name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>preset {escape(preset.id)} ({escape(preset.program)})</p>",
        format_table(("set", *names), rows),
        *map(format_picture, pictures),
    ]
    return write_html(title, parts, folder / "index.html")
