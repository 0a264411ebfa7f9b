"""Predictions and features of images from a trained network."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from inception_jax.data.decode import Orientation, has_exif_rotation
from inception_jax.data.images import FileSource, Image
from inception_jax.data.source import DataError
from inception_jax.data.stage_timer import count_cores
from inception_jax.evaluation.features import make_features_step
from inception_jax.weights.trained_network import TrainedNetwork, get_digest, load_trained

HEADER = 2**17
"""Bytes of a file in which its EXIF is looked for: a JPEG's is within the first 64 KB."""
BATCH = 32
"""Images that are computed together: one program for any number of them."""
BATCHES_IN_FLIGHT = 3
"""Batches on the devices at once, so that they stay busy while results are read and written."""


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
      placement: The devices.
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
        self._computes: dict[str | None, Compute] = {}
        self.card, self.names = self._trained.card, self._trained.run.class_names
        self.placement = self._trained.run.placement
        self.is_primary = self.placement.is_primary

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
        self, images: Sequence[Image], compute: Compute | None = None, *, start: int = 0
    ) -> Iterator[np.ndarray | None]:
        """Yields the result of `compute` (default: probabilities [K]) for each image.

        Yields None for an image that cannot be read. All cores decode.

        Args:
          start: Index of the first image. The batches are those of a call with 0 where it is a
            multiple of `choose_batch_size`.
        """
        run, variables = self._trained[:2]
        compute = compute or run.predict_step
        size = self.choose_batch_size(len(images))
        threads = run.config.data.threads and max(run.config.data.threads, count_cores())
        data = replace(run.config.data, on_bad_example="skip_and_count", threads=threads)
        looking = replace(
            run,
            config=replace(run.config, batch_size=size, data=data),
            given_source=FileSource(images[start:], self.names),
        )
        running: deque[tuple[Any, Any, int]] = deque()
        for first, batch in zip(
            range(start, len(images), size), looking.test_batches(), strict=True
        ):
            results = compute(variables, batch.image), self.placement.gather(batch.weight)
            for array in results:
                array.copy_to_host_async()
            running.append((*results, min(size, len(images) - first)))
            if len(running) == BATCHES_IN_FLIGHT:
                yield from _read(*running.popleft())
        while running:
            yield from _read(*running.popleft())

    def choose_batch_size(self, num_images: int) -> int:
        """Returns the number of images in a batch, a multiple of the devices."""
        devices = self.placement.devices
        return -(-min(self._batch_size, max(num_images, 1)) // devices) * devices

    def infer_shape(self, compute: Compute, batch_size: int) -> tuple[int, ...]:
        """Returns the shape of the result of `compute` for an image, without computing it."""
        run, variables = self._trained[:2]
        image_size = run.config.data.image_size
        images = jax.ShapeDtypeStruct((batch_size, image_size, image_size, 3), np.uint8)
        return tuple(jax.eval_shape(compute, variables, images).shape[1:])

    def collect_facts(self) -> dict[str, Any]:
        """Returns the network, the origin and digest of its weights, and its preprocessing."""
        run, _, card = self._trained[:3]
        orientation = run.config.data.orientation
        return {
            "network": asdict(card.model),
            "source": card.source,
            "release": card.release,
            "digest": get_digest(self._trained),
            "preprocessing": {**card.preprocessing, "orientation": orientation},
        }

    def make_compute(self, end_point: str | None) -> Compute:
        """Returns a function that computes the activations at an end point, or pooled features.

        It is compiled once, also for several calls.

        Raises:
          ConfigError: The network has no such end point.
        """
        if end_point not in self._computes:
            self._computes[end_point] = make_features_step(self._trained.run, end_point)
        return self._computes[end_point]

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
