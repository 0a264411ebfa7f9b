"""Scores of generated images while they are on the devices, in a loop of training or alone."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.distributed.mesh import Placement
from inception_jax.generative import statistics
from inception_jax.generative.extractor import Engine, Extractor, ImageFeatures, SetState
from inception_jax.generative.feature_set import JACKKNIFE_BLOCKS, FeatureSet, ParkedBlocks, RowFile
from inception_jax.generative.frechet import FeatureMoments, moments_from_rows
from inception_jax.generative.metrics import check_kept, compute_scores, list_needs
from inception_jax.generative.presets import DEFAULT_PRESET, Preset, Range, get_preset, get_range
from inception_jax.generative.scores import Score
from inception_jax.generative.statistics import Statistics
from inception_jax.generative.statistics_file import check_comparable, read_statistics
from inception_jax.weights.trained_network import TrainedNetwork, load_trained

CHECK_EVERY = 64
"""Batches of floats after which their range is looked at: not after hours."""
SetKind = Literal["real", "fake"]


class Collector:
    """Collects the features of one set, batch by batch.

    Attributes:
      count: Images so far.
    """

    def __init__(
        self,
        extractor: Extractor,
        name: str,
        *,
        keep_features: bool = False,
        keep_logits: bool = False,
        blocks: int = JACKKNIFE_BLOCKS,
    ):
        """Begins an empty set.

        Args:
          extractor: The network on its devices.
          name: Name of the set, for messages.
          keep_features: Whether to keep the features of all images, on disk. Those of the first d
            are always kept: fewer have no covariance of full rank, and are scored by themselves.
          keep_logits: Whether to keep the logits of all images.
          blocks: Blocks of the jackknife; 0 for no interval.
        """
        self.count, self._name, self._batches, self._blocks = 0, name, 0, blocks
        self._extractor, self._keeps_all = extractor, keep_features
        self._state: SetState = extractor.make_state(blocks)
        self._pooled, self._spatial = RowFile(), RowFile()
        self._logits = RowFile() if keep_logits and extractor.has_logits else None
        self._gather = extractor.placement.gather
        self._pending: tuple[ImageFeatures, np.ndarray] | None = None

    def add(
        self,
        images: Any,
        weights: np.ndarray,
        global_weights: Any,
        value_range: Range | None = None,
    ) -> None:
        """Adds a batch.

        Args:
          images: As of `Extractor.step`, over all processes.
          weights: [B], which rows are images, of the whole batch, on this host.
          global_weights: The same on the devices.
          value_range: As of `Extractor.step`.
        """
        state, outputs = self._extractor.step(self._state, images, global_weights, value_range)
        self._state = state
        kept = self._choose_outputs(outputs)
        # Read while the devices compute the next batch.
        self._read_pending()
        self._pending = (kept, weights)
        self.count += int((weights > 0).sum())
        self._batches += 1
        if value_range is not None and self._batches % CHECK_EVERY == 0:
            self._check_range()

    def _choose_outputs(self, outputs: ImageFeatures) -> ImageFeatures:
        """Returns the features that are to be kept, on their way to every process."""
        wants_pooled = self._keeps_all or self.count <= self._extractor.size
        wants_spatial = outputs.spatial is not None and self.count <= self._extractor.spatial_size
        chosen = ImageFeatures(
            outputs.pooled if wants_pooled else None,
            outputs.logits if self._logits is not None else None,
            outputs.spatial if wants_spatial else None,
        )
        if jax.process_count() > 1:
            chosen = self._gather(chosen)
        return chosen

    def _read_pending(self) -> None:
        if self._pending is None:
            return
        outputs, weights = self._pending
        self._pending = None
        files = (self._pooled, self._logits, self._spatial)
        for file, array in zip(files, outputs, strict=True):
            if file is not None and array is not None:
                file.append(np.asarray(array)[weights > 0])

    def _check_range(self) -> None:
        if outside := int(self._state.outside):
            raise DataError(
                f"{self._name}: {outside:,} of {self.count:,} images have values outside of their "
                "range, or NaN: name the range that the generator has, or clip its images first"
            )

    def finish(self) -> FeatureSet:
        """Returns what is known of the set; every process has to call it.

        Raises:
          DataError: There are fewer than two images, floats lie outside of their range, or features
            are NaN or infinite.
        """
        self._read_pending()
        self._check_range()
        moments, blocks = _finish(self._state.pooled, self._pooled, self._extractor.size)
        spatial: tuple[FeatureMoments | None, ParkedBlocks | None] = (None, None)
        if self._state.spatial is not None:
            size = self._extractor.spatial_size
            spatial = _finish(self._state.spatial, self._spatial, size)
        return FeatureSet(
            self._name,
            moments,
            spatial[0],
            self._pooled.read() if self._pooled.count == self.count else None,
            self._logits.read() if self._logits is not None else None,
            blocks=blocks,
            spatial_blocks=spatial[1],
            num_blocks=self._blocks,
            facts={**self._extractor.collect_facts(), "set": self._name, "num_images": self.count},
        )


def _finish(
    sums: Statistics, rows: RowFile, size: int
) -> tuple[FeatureMoments, ParkedBlocks | None]:
    """Returns the moments of a set, and its blocks, of sums or of the few rows that there are."""
    total = statistics.gather_sums(sums)
    if 2 <= total.count <= size:
        return moments_from_rows(np.array(rows.read())), None
    moments = total.to_moments()
    blocks = ParkedBlocks(total, statistics.gather_blocks(sums))
    return moments, blocks if len(blocks) else None


def check_statistics(found: FeatureSet, extractor: Extractor, *, anyway: bool = False) -> list[str]:
    """Returns what statistics and the features of a network differ in, in sentences.

    Raises:
      ConfigError: See `check_comparable`.
      DataError: They have another number of features.
    """
    notes = check_comparable(found.facts, extractor.collect_facts(), anyway=anyway)
    if found.moments.size != extractor.size:
        raise DataError(
            f"{found.name} has {found.moments.size:,} features for an image, and this network "
            f"{extractor.size:,}: give statistics of the same layer"
        )
    return notes


class Evaluator:
    """Scores generated images against a reference, on the devices and while training goes on.

        evaluator = Evaluator("fid/2015-12-05", "edm", reference="cifar10.stats.safetensors")
        evaluator.add(images, value_range="-1..1")       # as often as needed, from the devices
        scores = evaluator.compute()                      # {"fid": Score(value=..., bias=...), ...}

    Attributes:
      preset: The settings.
      placement: The devices.
      batch_size: Images of the compiled step.
    """

    def __init__(
        self,
        weights: str | Path | TrainedNetwork,
        preset: str | Preset = DEFAULT_PRESET,
        placement: Placement | None = None,
        *,
        metrics: Sequence[str] = ("fid",),
        reference: str | Path | FeatureSet | None = None,
        batch_size: int = 64,
        blocks: int = JACKKNIFE_BLOCKS,
        engine: Engine = "xla",
    ):
        """Loads the network.

        Args:
          weights: A weights file, a release's id, or a network that is loaded already.
          preset: Its name, or one of one's own.
          placement: The devices; default: all of them.
          metrics: Names of `metrics.SET_METRICS`.
          reference: A file of statistics, or a set; else add images of kind `real`.
          batch_size: Images of the compiled step, rounded up to a multiple of the devices.
          blocks: Blocks of the jackknife; 0 for no interval.
          engine: As of `Extractor`.

        Raises:
          ConfigError, DataError: See `load_trained`, `Extractor`, `check_comparable` and
            `list_needs`.
        """
        trained = weights if isinstance(weights, TrainedNetwork) else load_trained(str(weights))
        if placement is not None and placement is not trained.run.placement:
            trained = trained._replace(
                run=replace(trained.run, placement=placement),
                variables=jax.device_put(trained.variables, placement.replicated),
            )
        self.preset = get_preset(preset) if isinstance(preset, str) else preset
        self._metrics, self._needs = tuple(metrics), list_needs(metrics)
        if "labels" in self._needs:
            raise ConfigError("images that are added have no labels: leave the metric class out")
        self._extractor = Extractor(
            trained, self.preset, spatial="spatial" in self._needs, engine=engine
        )
        if "logits" in self._needs and not self._extractor.has_logits:
            raise ConfigError("the Inception Score needs a network that ends in one linear layer")
        self.placement = self._extractor.placement
        devices = self.placement.devices
        self.batch_size = -(-batch_size // devices) * devices
        self._blocks = blocks
        self._collectors: dict[str, Collector] = {}
        self._reference: FeatureSet | None = None
        self._root = ThreadPoolExecutor(1, "scores")
        if reference is not None:
            self.set_reference(reference)

    def set_reference(self, reference: str | Path | FeatureSet) -> None:
        """Takes a file of statistics, or a set, as the reference.

        Raises:
          DataError, ConfigError: It cannot be read, or is of another preset or other weights.
        """
        found = reference
        if not isinstance(found, FeatureSet):
            found = read_statistics(found, self.preset)
        found.notes += check_statistics(found, self._extractor)
        check_kept(self._metrics, found, is_real=True)
        self._reference = found

    def add(
        self,
        images: Any,
        kind: SetKind = "fake",
        *,
        value_range: str | None = None,
        weights: Any = None,
    ) -> None:
        """Adds images; they may be on the devices, and are never copied to the host.

        Args:
          images: [N, H, W, 3], or [N, H, W, 1] for grey: uint8, or floats of `value_range`. Any N:
            they are taken in parts of `batch_size`, and the last is padded. In several processes
            all images, sharded over the devices, which then are one part.
          kind: `fake` for generated images, `real` for the reference.
          value_range: Range of floats, `0..1`, `-1..1` or `0..255`; the preset's rule makes bytes
            of them.
          weights: [N], 0 for images that do not count, as padding of a sampler.

        Raises:
          ConfigError: Floats come without a range, or the kind is unknown.
          DataError: Images have another shape.
        """
        if kind not in ("real", "fake"):
            raise ConfigError(f"images are of kind {kind!r}: give real or fake")
        if kind == "real" and self._reference is not None:
            raise ConfigError("the reference is whole: it was given, or used by a score already")
        shape, dtype = np.shape(images), jnp.result_type(images)
        if len(shape) != 4 or shape[3] not in (1, 3) or not shape[0]:
            raise DataError(
                f"images are {dtype} {list(shape)}: wanted are [N, H, W, 3], channels last, or "
                "[N, H, W, 1]"
            )
        is_float = jnp.issubdtype(dtype, jnp.floating)
        if not is_float and dtype != jnp.uint8:
            raise DataError(f"images are {dtype}: wanted are uint8, or floats of a range")
        if is_float and value_range is None:
            raise ConfigError("images are floats: name their range, value_range='-1..1' or '0..1'")
        if not is_float and value_range is not None:
            raise ConfigError(
                f"images are uint8, which have no range {value_range!r}: leave it out"
            )
        chosen = get_range(value_range) if value_range is not None else None
        collector = self._collectors.get(kind) or self._begin(kind)
        own = np.ones(shape[0], np.float32) if weights is None else np.asarray(weights, np.float32)
        if own.shape != shape[:1] or not np.isin(own, (0, 1)).all():
            raise DataError(
                f"weights are {list(own.shape)}: wanted are {shape[0]}, each 1, or 0 for an image "
                "that does not count"
            )
        is_local = not isinstance(images, jax.Array) or images.is_fully_addressable
        if is_local and jax.process_count() > 1:
            raise ConfigError("several processes add images that are sharded over all devices")
        size = self.batch_size if is_local else shape[0]
        sharding = self.placement.batch_sharding
        for start in range(0, shape[0], size):
            part = images[start : start + size] if is_local else images
            counts = own[start : start + size]
            missing = size - len(counts)
            counts = np.concatenate([counts, np.zeros(missing, np.float32)])
            library = jnp if isinstance(part, jax.Array) else np
            if shape[3] == 1:
                part = library.repeat(part, 3, axis=3)
            if missing:
                part = library.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)], "edge")
            if is_local:
                part = jax.device_put(part, sharding)
            collector.add(part, counts, jax.device_put(counts, sharding), chosen)

    def _begin(self, kind: SetKind) -> Collector:
        self._collectors[kind] = Collector(
            self._extractor,
            "the generated images" if kind == "fake" else "the reference",
            keep_features="features" in self._needs,
            keep_logits="logits" in self._needs,
            blocks=self._blocks,
        )
        return self._collectors[kind]

    def compute(self) -> dict[str, Score]:
        """Returns the scores, and begins the generated set anew; the reference stays.

        Raises:
          ConfigError: There is no reference, or no generated image.
          DataError: See `Collector.finish` and the metrics.
        """
        return self.submit().result()

    def submit(self) -> "Future[dict[str, Score]]":
        """Returns the scores once they are there: roots are taken on a thread of the host.

        The generated set begins anew at once, so that training can go on.

        Raises:
          ConfigError, DataError: As of `compute`, for what the devices have to tell.
        """
        real, fake = self._finish_real(), self._finish_fake()
        return self._root.submit(compute_scores, self._metrics, real, fake, self.preset)

    def _finish_real(self) -> FeatureSet:
        if self._reference is None:
            if "real" not in self._collectors:
                raise ConfigError("there is no reference: give one, or add images of kind 'real'")
            self._reference = self._collectors.pop("real").finish()
        return self._reference

    def _finish_fake(self) -> FeatureSet:
        if "fake" not in self._collectors:
            raise ConfigError("there are no generated images: add some")
        return self._collectors.pop("fake").finish()


def format_score(score: Score) -> str:
    """Returns a score with its interval of 95 %, bias and number of images."""
    text = f"{score.value:.6g}"
    if score.half_width is not None:
        text += f" +- {score.half_width:.2g}"
    parts = []
    if score.bias is not None:
        parts.append(f"bias {score.bias:.2g}" if score.bias else "no bias")
    counts = ["?" if n is None else f"{n:,}" for n in (score.num_real, score.num_fake)]
    parts.append(f"N {counts[0]} and {counts[1]}")
    return f"{text} ({', '.join(parts)})"
