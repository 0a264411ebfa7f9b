"""Predictions and features of images from a trained network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.decode import Orientation, has_exif_rotation
from inception_jax.data.images import FileSource, Image
from inception_jax.data.source import DataError
from inception_jax.evaluation.features import make_features_step
from inception_jax.weights.trained_network import TrainedNetwork, load_trained

HEADER = 2**17
"""Bytes of a file in which its EXIF is looked for: a JPEG's is within the first 64 KB."""
BATCH = 32
"""Images that are computed together: one program for any number of them."""


Compute = Callable[[Any, Any], Any]
"""A compiled function: (variables, images [B, H, W, 3] uint8) -> [B, ...]."""


class Guess(NamedTuple):
    """A class with the probability that the network gives it."""

    name: str
    probability: float


class Predictor:
    """A trained network with its preprocessing.

        Predictor("weights.safetensors").top(["image.jpg"])

    One program is compiled, for batches of `batch_size`; images are decoded while it runs.

    Attributes:
      card: Card of the weights.
      names: Names of the classes.
      is_primary: Whether this process prints, of several that predict together. Each has all
        results.
    """

    def __init__(
        self, path: str | Path, *, batch_size: int = BATCH, orientation: Orientation | None = None
    ):
        """Opens a weights file, or the workdir of a run.

        Args:
          orientation: Use of the EXIF orientation, `apply` or `ignore`; default: the card's.

        Raises:
          DataError, ConfigError, CheckpointError: See `load_trained`.
        """
        self._trained: TrainedNetwork = load_trained(str(path))
        if orientation is not None:
            config = self._trained.run.config
            turned = replace(config, data=replace(config.data, orientation=orientation))
            self._trained = self._trained._replace(run=replace(self._trained.run, config=turned))
        self._batch_size = batch_size
        self.card, self.names = self._trained.card, self._trained.run.class_names
        self.is_primary = self._trained.run.placement.is_primary

    def probabilities(self, images: Sequence[Image]) -> np.ndarray:
        """Returns the probabilities [N, K] for files, encoded bytes or pixels.

        Raises:
          DataError: An image cannot be read; the message says which, and why.
        """
        return self._stack(None, images)

    def top(self, images: Sequence[Image], k: int = 5) -> list[list[Guess]]:
        """Returns the `k` likeliest classes of each image, the likeliest first.

        Raises:
          DataError: An image cannot be read.
        """
        return [self.best(row, k) for row in self.probabilities(images)]

    def features(self, images: Sequence[Image], end_point: str | None = None) -> np.ndarray:
        """Returns the activations [N, ...] at an end point, or the pooled features.

        Raises:
          DataError: An image cannot be read.
          ConfigError: The network has no such end point.
        """
        return self._stack(self.make_compute(end_point), images)

    def best(self, row: np.ndarray, k: int) -> list[Guess]:
        """Returns the `k` likeliest classes for one image's probabilities [K].

        Equal ones are in the order of the classes.
        """
        return [Guess(self.names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:k]]

    def each(
        self, images: Sequence[Image], compute: Compute | None = None
    ) -> Iterator[np.ndarray | None]:
        """Yields the result of `compute` (default: probabilities [K]) for each image.

        Yields None for an image that cannot be read.
        """
        run, variables = self._trained[:2]
        compute = compute or run.predict_step
        devices = run.placement.devices
        size = -(-min(self._batch_size, max(len(images), 1)) // devices) * devices
        config = replace(
            run.config,
            batch_size=size,
            data=replace(run.config.data, on_bad_example="skip_and_count"),
        )
        looking = replace(run, config=config, given_source=FileSource(images, self.names))
        running: list[tuple[Any, Any]] = []
        remaining = len(images)
        for batch in looking.test_batches():
            running.append((compute(variables, batch.image), run.placement.gather(batch.weight)))
            if len(running) > 1:  # the next batch is under way before this one is waited for
                yield from _read(*running.pop(0), limit=size)
                remaining -= size
        for results in running:
            yield from _read(*results, limit=remaining)

    def make_compute(self, end_point: str | None) -> Compute:
        """Returns a function that computes the activations at an end point, or pooled features.

        Raises:
          ConfigError: The network has no such end point.
        """
        return make_features_step(self._trained.run, end_point)

    def explain_failure(self, image: Image) -> str:
        """Returns the reason why an image cannot be read; empty if it can."""
        try:
            self._trained.run.pixels(FileSource([image], self.names)[0])
        except DataError as error:
            return str(error)
        return ""

    @property
    def ignores_orientation(self) -> bool:
        """Whether images are read as stored, whatever their EXIF orientation."""
        return self._trained.run.config.data.orientation == "ignore"

    def is_turned(self, image: Image) -> bool:
        """Returns whether an image has an EXIF orientation other than upright."""
        if isinstance(image, bytes | np.ndarray):
            return has_exif_rotation(image)
        try:
            with open(image, "rb") as opened:
                return has_exif_rotation(opened.read(HEADER))
        except (OSError, ValueError):
            return False

    def _stack(self, compute: Compute | None, images: Sequence[Image]) -> np.ndarray:
        rows = []
        for image, row in zip(images, self.each(images, compute), strict=True):
            if row is None:
                raise DataError(
                    f"{image if not isinstance(image, bytes | np.ndarray) else 'an image'}: "
                    f"{self.explain_failure(image)}"
                )
            rows.append(row)
        return np.stack(rows) if rows else np.zeros((0, len(self.names)), np.float32)


def _read(values: Any, weights: Any, limit: int) -> Iterator[np.ndarray | None]:
    values, weights = np.asarray(values), np.asarray(weights)
    for row, weight in zip(values[:limit], weights[:limit], strict=True):
        yield row if weight else None
