"""The metrics by name: from two sets of features to scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.generative import inception_score as inception
from inception_jax.generative import kernel_distance as kernel
from inception_jax.generative.conditional import (
    classwise_distances,
    conditional_distance,
    encode_classes,
)
from inception_jax.generative.feature_set import FeatureSet
from inception_jax.generative.frechet import (
    FeatureMoments,
    LeaveOut,
    choose_sizes,
    compute_distances_by_size,
    extrapolate,
    frechet_distance,
    jackknife_distance,
)
from inception_jax.generative.neighbours import density_coverage, find_nearest, precision_recall
from inception_jax.generative.presets import Preset
from inception_jax.generative.scores import (
    JACKKNIFE_BLOCKS,
    MIN_BLOCKS,
    UNKNOWN_INTERVAL,
    Interval,
    Score,
    assign_blocks,
    jackknife,
)

Scores = dict[str, Score]
DENSITY_NEIGHBOURS = 5
"""Neighbours of density and coverage: those of the example of prdc, and of most papers."""
FIXED_BALLS = "the other set's balls are held fixed in the interval"


class Sizes(NamedTuple):
    """Numbers of images of both sets; None where statistics do not record it."""

    real: int | None
    fake: int | None

    def require(self, least: int, metric: str) -> None:
        """Raises an error for a set that is too small for a metric.

        Raises:
          DataError: A set has fewer than `least` images.
        """
        for name, count in (("reference", self.real), ("generated set", self.fake)):
            if count is not None and count < least:
                raise DataError(
                    f"{metric} needs {least:,} images of each set, and the {name} has {count:,}: "
                    "give more images"
                )


@dataclass(frozen=True)
class SetMetric:
    """A metric.

    Attributes:
      compute: (real, fake, preset) -> scores by name.
      needs: What has to be kept of each set: `features`, `logits`, `labels` or `spatial`.
      description: What it measures, for the help.
      is_of_fake: Whether only the generated set has to have it.
    """

    compute: Callable[[FeatureSet, FeatureSet, Preset], Scores]
    needs: tuple[str, ...]
    description: str
    is_of_fake: bool = False


def compute_scores(
    metrics: Iterable[str],
    real: FeatureSet,
    fake: FeatureSet,
    preset: Preset,
    on_begin: Callable[[str], None] = lambda text: None,
) -> Scores:
    """Returns the scores of metrics by name.

    Args:
      metrics: Names of `SET_METRICS`.
      real: The reference set.
      fake: The generated set.
      preset: The settings.
      on_begin: Gets a line on what is computed, before each metric.

    Raises:
      ConfigError: A metric is unknown.
      DataError: A set lacks what a metric needs, or is too small.
    """
    found: Scores = {}
    for name in metrics:
        metric = get_metric(name)
        on_begin(f"computing {name}: {metric.description}")
        found |= metric.compute(real, fake, preset)
    return found


def get_metric(name: str) -> SetMetric:
    """Returns the metric of a name.

    Raises:
      ConfigError: There is none.
    """
    if name not in SET_METRICS:
        raise ConfigError(f"there is no metric {name!r}: there are {', '.join(SET_METRICS)}")
    return SET_METRICS[name]


def check_sizes(metrics: Iterable[str], preset: Preset, sizes: Sizes) -> None:
    """Raises an error for sets that are too small for a metric, before anything is computed.

    Raises:
      ConfigError: A metric is unknown.
      DataError: A set is too small; the message says for what, and what to give instead.
    """
    least = {"pr": preset.neighbourhood.k + 1, "dc": DENSITY_NEIGHBOURS + 1, "fid_infinity": 3}
    for name in metrics:
        get_metric(name)
        if name == "is":
            if sizes.fake is not None:
                preset.splits.list_bounds(sizes.fake)
            continue
        sizes.require(least.get(name, 2), name)
        known = [count for count in sizes if count is not None]
        if name == "kid" and isinstance(preset.kid, kernel.Subsets):
            preset.kid.get_size(min(known, default=preset.kid.size))
        elif name == "kid" and preset.kid == "blocks" and len(known) == 2:
            kernel.check_blocks(*known)


def list_needs(metrics: Iterable[str], *, of_real: bool = False) -> set[str]:
    """Returns what metrics need to be kept of each set, or of the reference alone.

    Raises:
      ConfigError: A metric is unknown.
    """
    known = [get_metric(name) for name in metrics]
    return {need for one in known if not (of_real and one.is_of_fake) for need in one.needs}


def check_kept(metrics: Iterable[str], one: FeatureSet, *, is_real: bool) -> None:
    """Raises an error for statistics that lack what a metric needs.

    Raises:
      DataError: The message says what, and what to give instead.
      ConfigError: A metric is unknown.
    """
    for name in metrics:
        for need in sorted(list_needs([name], of_real=is_real)):
            if need == "spatial":
                _get_moments(one, True, name)
            else:
                one.require(need, name)


def _score_distance(
    real: FeatureSet, fake: FeatureSet, preset: Preset, *, spatial: bool = False
) -> Score:
    name = "sfid" if spatial else "fid"
    own, others = (_get_moments(one, spatial, name) for one in (real, fake))
    distance = frechet_distance(own, others, preset.ddof)
    notes = []
    for one, moments in ((real, own), (fake, others)):
        if moments.is_rank_deficient:
            notes.append(
                f"{one.name} has {moments.count:,} images for {moments.size:,} features: its "
                "covariance has no full rank, and most of the distance is bias"
            )
    if distance.is_rounding:
        notes.append("the sets are alike to rounding, which gives 0")
    if real.images_digest and real.images_digest == fake.images_digest:
        notes.append("both sets have the same images")
        facts = ("preset", "weights", "origin")
        if own.count == others.count and all(real.facts.get(x) == fake.facts.get(x) for x in facts):
            return Score(0.0, own.count, others.count, notes=tuple(notes))
    left_out = fake.list_left_out(spatial)
    reference = real.list_left_out(spatial)
    interval = UNKNOWN_INTERVAL
    if left_out is None:
        if fake.count is not None:
            notes.append(f"no interval: it takes {MIN_BLOCKS} blocks, each of a batch or more")
    else:
        held: FeatureMoments | LeaveOut = own
        if reference is not None and reference.blocks == left_out.blocks:
            held = reference
        else:
            notes.append("bias and interval are of the generated set; the reference is held fixed")
        interval = jackknife_distance(distance.value, held, left_out, left_out.blocks, preset.ddof)
    return Score(distance.value, own.count, others.count, *interval, notes=tuple(notes))


def _get_moments(one: FeatureSet, spatial: bool, metric: str) -> FeatureMoments:
    if not spatial:
        return one.moments
    if one.spatial is None:
        raise DataError(
            f"{metric} needs spatial features, which {one.name} has not: make its statistics with "
            "--metrics sfid"
        )
    return one.spatial


def _frechet(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    return {"fid": _score_distance(real, fake, preset)}


def _spatial(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    return {"sfid": _score_distance(real, fake, preset, spatial=True)}


def _infinity(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    features = fake.require("features", "fid_infinity")
    sizes = choose_sizes(len(features))
    distances = compute_distances_by_size(real.moments, features, sizes, ddof=preset.ddof)
    notes = (
        f"a line through {len(sizes)} sizes from {sizes[0]:,} to {sizes[-1]:,} images, drawn with "
        "seed 0; the reference keeps its own bias",
    )
    line = extrapolate(sizes, distances)
    score = Score(line.intercept, real.count, len(features), 0.0, line.deviation, notes=notes)
    return {"fid_infinity": score}


def _kernel(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    own, others = real.require("features", "kid"), fake.require("features", "kid")
    if isinstance(preset.kid, str):
        found = kernel.kernel_distance(own, others, preset.kid)
        notes = ["all pairs" if preset.kid == "all" else f"{len(found.parts)} consecutive blocks"]
    else:
        found = kernel.kernel_distance(own, others, "subsets", preset.kid)
        size = preset.kid.get_size(min(len(own), len(others)))
        notes = [f"{preset.kid.count} random subsets of {size:,}, seed {preset.kid.seed}"]
        if preset.name in ("torchmetrics", "clean-fid", "stylegan"):
            notes.append(f"{preset.program} draws with a generator that it does not seed")
    bias, deviation = kernel.estimate_kid_interval(own, others)
    split_deviation = float(found.parts.std()) if len(found.parts) > 1 else None
    score = Score(
        found.value, len(own), len(others), bias, deviation, split_deviation, tuple(notes)
    )
    return {"kid": score}


def _inception_score(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    logits = fake.require("logits", "is")
    splits = preset.splits
    found = inception.inception_score(logits, splits)
    interval = inception.estimate_score_interval(
        logits, found.value, min(JACKKNIFE_BLOCKS, len(logits))
    )
    notes = [f"{len(found.parts)} splits" if len(found.parts) > 1 else "one split"]
    if splits.seed is not None:
        notes.append(f"permuted with seed {splits.seed}")
    if len(logits) < 50 * len(found.parts):
        notes.append(f"{len(logits) // len(found.parts)} images a split: biased low")
    score = Score(
        found.value,
        None,
        len(logits),
        *interval,
        found.compute_deviation(splits.ddof),
        tuple(notes),
    )
    return {"inception_score": score}


def _average(by_image: np.ndarray) -> tuple[float, Interval]:
    """Returns the mean of numbers by image, and its interval."""
    values = np.asarray(by_image, np.float64)
    blocks = min(JACKKNIFE_BLOCKS, len(values))
    owners = assign_blocks(len(values), blocks)
    left_out = [values[owners != block].mean() for block in range(blocks)]
    return float(values.mean()), Interval(None, jackknife(values.mean(), left_out).deviation)


def _precision(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    own, others = real.require("features", "pr"), fake.require("features", "pr")
    k, limit = preset.neighbourhood
    notes = [f"k = {k}, in features of the Inception network", FIXED_BALLS]
    if limit and len(own) > limit:
        own = own[:limit]
        notes.append(f"the first {limit:,} reference images, as the preset's program takes")
    found = precision_recall(own, others, k)
    counts = len(own), len(others)
    precision, recall = _average(found.fake_is_in), _average(found.real_is_in)
    return {
        "precision": Score(precision[0], *counts, *precision[1], notes=tuple(notes)),
        "recall": Score(recall[0], *counts, *recall[1], notes=tuple(notes)),
    }


def _density(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    own, others = real.require("features", "dc"), fake.require("features", "dc")
    found = density_coverage(own, others, DENSITY_NEIGHBOURS)
    notes = (f"k = {DENSITY_NEIGHBOURS}", FIXED_BALLS)
    counts = len(own), len(others)
    density, coverage = _average(found.balls), _average(found.is_covered)
    return {
        "density": Score(density[0], *counts, *density[1], notes=notes),
        "coverage": Score(coverage[0], *counts, *coverage[1], notes=notes),
    }


def _classes(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    own, others = real.require("features", "class"), fake.require("features", "class")
    labels = match_labels(*(Labels(x.name, x.labels, x.class_names) for x in (real, fake)))
    by_class = classwise_distances(own, labels[0], others, labels[1], preset.ddof)
    values = np.array(list(by_class.values()))
    names = dict(enumerate(real.class_names or fake.class_names))
    worst = max(by_class, key=lambda label: by_class[label])
    notes = [
        f"the mean over {len(values)} classes",
        f"largest for {names.get(worst, worst)}: {by_class[worst]:.6g}",
        "classes are small: compare equal numbers of images",
    ]
    known = np.unique(np.concatenate(labels))
    conditions = [encode_classes(np.searchsorted(known, one), len(known)) for one in labels]
    conditional = conditional_distance(own, conditions[0], others, conditions[1], preset.ddof)
    split_deviation = float(values.std()) if len(values) > 1 else None
    counts = len(own), len(others)
    return {
        "classwise_fid": Score(
            float(values.mean()), *counts, split_deviation=split_deviation, notes=tuple(notes)
        ),
        "conditional_fid": Score(
            conditional.value, *counts, notes=(f"of which {conditional.mean_term:.6g} is of means",)
        ),
    }


class Labels(NamedTuple):
    """The labels of a set [N] int, with the names of its classes, or none."""

    name: str
    labels: np.ndarray | None
    class_names: tuple[str, ...]


def match_labels(real: Labels, fake: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels of both sets, by the reference's numbers where both name their classes.

    Raises:
      DataError: A set has no labels, or a class of the generated set is none of the reference.
    """
    for one in (real, fake):
        if one.labels is None:
            raise DataError(
                f"{one.name} has no labels, which the metric class needs: give "
                "FOLDER/<class>/<image>, or a dataset with labels"
            )
    assert real.labels is not None
    assert fake.labels is not None
    others = fake.labels
    if real.class_names and fake.class_names and real.class_names != fake.class_names:
        index = {name: i for i, name in enumerate(real.class_names)}
        if odd := [name for name in fake.class_names if name not in index]:
            raise DataError(
                f"{fake.name} has classes that {real.name} has not, {', '.join(odd[:3])} among "
                f"{len(odd)}: name the folders alike"
            )
        others = np.array([index[name] for name in fake.class_names])[others]
    return real.labels, others


def _copies(real: FeatureSet, fake: FeatureSet, preset: Preset) -> Scores:
    own, others = real.require("features", "copies"), fake.require("features", "copies")
    found = find_nearest(own, others)
    counts = len(own), len(others)
    authentic, distance = _average(~found.is_closer), _average(found.cosine_distance)
    notes = (
        "the share of images that are no nearer to a real one than that is to another real one: "
        "about a half for new images of the same distribution, 0 for copies",
    )
    return {
        "authenticity": Score(authentic[0], *counts, *authentic[1], notes=notes),
        "memorisation_distance": Score(
            distance[0],
            *counts,
            *distance[1],
            notes=("mean cosine distance to the nearest real image",),
        ),
    }


SET_METRICS: Mapping[str, SetMetric] = {
    "fid": SetMetric(_frechet, (), "Frechet Inception Distance"),
    "fid_infinity": SetMetric(
        _infinity, ("features",), "FID extrapolated to infinitely many images", is_of_fake=True
    ),
    "kid": SetMetric(_kernel, ("features",), "Kernel Inception Distance"),
    "is": SetMetric(_inception_score, ("logits",), "Inception Score", is_of_fake=True),
    "pr": SetMetric(_precision, ("features",), "improved precision and recall"),
    "dc": SetMetric(_density, ("features",), "density and coverage"),
    "sfid": SetMetric(_spatial, ("spatial",), "FID of spatial features"),
    "class": SetMetric(_classes, ("features", "labels"), "FID by class, and conditional FID"),
    "copies": SetMetric(_copies, ("features",), "nearness to training images"),
}
"""The metrics by name."""


def score_to_json(score: Score) -> dict[str, Any]:
    """Returns a score as a dictionary, with its interval of 95 %."""
    found = score._asdict()
    half = score.half_width
    found["interval"] = None if half is None else [score.value - half, score.value + half]
    return found | {"notes": list(score.notes)}


def choose_curve_sizes(count: int, points: int = 8) -> Sequence[int]:
    """Returns sizes for a picture of FID against N, from a tenth of the images to all."""
    return choose_sizes(count, points, smallest=count)
