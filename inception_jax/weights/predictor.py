"""From images to the names of what is in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.decode import Orientation, has_exif_rotation
from inception_jax.data.images import FileSource, Image
from inception_jax.data.source import DataError
from inception_jax.evaluation.features import make_features_step
from inception_jax.weights.trained import TrainedNetwork, load_trained

HEADER = 2**17
"""Bytes of a file in which its EXIF is looked for: a JPEG's is within the first 64 KB."""
BATCH = 32
"""Images that are computed together: one program for any number of them."""


Compute = Callable[[Any, Any], Any]
"""(variables, images [B, H, W, 3] uint8) -> [B, ...], compiled."""


class Guess(NamedTuple):
    """A class by its name, and how likely the network holds it to be."""

    name: str
    probability: float


class Predictor:
    """A trained network with what it is fed: `Predictor("weights.safetensors").top(["image.jpg"])`.

    One program is compiled, for batches of `batch_size`; images are decoded while it runs.

    Attributes:
      card: what is known of the weights.
      names: of the classes.
      leads: whether this process, of several that predict together, is the one that speaks. Each has all of the results.
    """

    def __init__(
        self, path: str | Path, *, batch_size: int = BATCH, orientation: Orientation | None = None
    ):
        """Opens a file of weights, or the workdir of a run.

        Args:
          orientation: whether images are turned as their EXIF says; as the card has it where not given.

        Raises:
          DataError, ConfigError, CheckpointError: see `load_trained`.
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
        """[N, K] of files, encoded bytes or pixels.

        Raises:
          DataError: an image that cannot be read; the message says which, and why.
        """
        return self._whole(None, images)

    def top(self, images: Sequence[Image], k: int = 5) -> list[list[Guess]]:
        """The `k` likeliest classes of each image, the likeliest first.

        Raises:
          DataError: an image that cannot be read.
        """
        return [self.best(row, k) for row in self.probabilities(images)]

    def features(self, images: Sequence[Image], end_point: str | None = None) -> np.ndarray:
        """[N, ...] the activations at an end point, or what the classifier reads.

        Raises:
          DataError: an image that cannot be read.
          ConfigError: an end point that the network has not.
        """
        return self._whole(self.at(end_point), images)

    def best(self, row: np.ndarray, k: int) -> list[Guess]:
        """The `k` largest of one image's probabilities [K]; equal ones in the order of the classes."""
        return [Guess(self.names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:k]]

    def each(
        self, images: Sequence[Image], compute: Compute | None = None
    ) -> Iterator[np.ndarray | None]:
        """Row by row what `compute` gives, the probabilities [K] where none is given; None for an image that cannot be read."""
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

    def at(self, end_point: str | None) -> Compute:
        """What computes the activations at an end point, or, with None, what the classifier reads.

        Raises:
          ConfigError: an end point that the network has not.
        """
        return make_features_step(self._trained.run, end_point)

    def fault(self, image: Image) -> str:
        """Why an image cannot be read; empty where it can."""
        try:
            self._trained.run.pixels(FileSource([image], self.names)[0])
        except DataError as error:
            return str(error)
        return ""

    @property
    def ignores_orientation(self) -> bool:
        """Whether images are taken as they lie, whatever their EXIF says."""
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

    def _whole(self, compute: Compute | None, images: Sequence[Image]) -> np.ndarray:
        rows = []
        for image, row in zip(images, self.each(images, compute), strict=True):
            if row is None:
                raise DataError(
                    f"{image if not isinstance(image, bytes | np.ndarray) else 'an image'}: "
                    f"{self.fault(image)}"
                )
            rows.append(row)
        return np.stack(rows) if rows else np.zeros((0, len(self.names)), np.float32)


def _read(values: Any, weights: Any, limit: int) -> Iterator[np.ndarray | None]:
    values, weights = np.asarray(values), np.asarray(weights)
    for row, weight in zip(values[:limit], weights[:limit], strict=True):
        yield row if weight else None
