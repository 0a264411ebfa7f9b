"""From a set of images to its features: reading, decoding and batches."""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.errors import escape_control_characters
from inception_jax.generative.decoding import decode_rgb
from inception_jax.generative.evaluator import Collector
from inception_jax.generative.extractor import Extractor
from inception_jax.generative.feature_set import (
    JACKKNIFE_BLOCKS,
    FeatureSet,
    find_copies,
    format_counts,
    format_sizes,
    hash_pixels,
)
from inception_jax.generative.image_sets import ImageSet
from inception_jax.generative.presets import Range
from inception_jax.generative.resizing import resize_images
from inception_jax.monitoring.progress import log_line, show_progress

AHEAD = 256
"""Images that are decoded ahead of the devices."""
MAX_NAMED = 5
LARGE = 2**21
"""Pixels of an image above which it is resized as soon as it is decoded: 192 photographs of 12
megapixels that wait for the devices would be 7 GB.
"""


@dataclass(frozen=True)
class _Read:
    """An image of a set, or the reason why it cannot be read."""

    index: int
    pixels: np.ndarray | None
    size: tuple[int, int] = (0, 0)
    digest: np.ndarray | None = None
    conversions: tuple[str, ...] = ()
    error: str = ""


def collect_images(
    images: ImageSet,
    extractor: Extractor,
    *,
    batch_size: int = 64,
    needs: set[str] = frozenset(),  # type: ignore[assignment]
    blocks: int = JACKKNIFE_BLOCKS,
    value_range: Range | None = None,
    skip_bad: bool = False,
    threads: int = 2,
    is_primary: bool = True,
) -> FeatureSet:
    """Returns the features of a set of images; shows progress.

    Images of one size are resized within the compiled step. Of several sizes, and in several
    processes, each is resized on the host, by the same rule in float32.

    Args:
      images: The set.
      extractor: The network on its devices.
      batch_size: Images of the compiled step, rounded up to a multiple of the devices.
      needs: What has to be kept, of `metrics.list_needs`.
      blocks: Blocks of the jackknife.
      value_range: Range of float images.
      skip_bad: Whether images that cannot be read are left out, with a warning.
      threads: Threads that decode.
      is_primary: Whether this process shows progress.

    Raises:
      ConfigError: `skip_bad` in several processes.
      DataError: An image cannot be read, floats come without a range, or see `Collector.finish`.
    """
    images.check_range(value_range)
    if not images.is_float:
        value_range = None
    if skip_bad and jax.process_count() > 1:
        raise ConfigError("several processes leave no image out: leave --skip-bad out, or use one")
    placement = extractor.placement
    devices = placement.devices
    size = -(-min(batch_size, max(len(images), 1)) // devices) * devices
    reader = _Reader(images, extractor, placement.local_rows(size), size, skip_bad, threads)
    collector = Collector(
        extractor,
        images.name,
        keep_features="features" in needs,
        keep_logits="logits" in needs,
        blocks=blocks,
    )
    starts = range(0, len(images), size)
    shown = show_progress(starts, f"{images.name}, batches of {size}") if is_primary else starts
    for _, (pixels, weights) in zip(shown, reader, strict=True):
        shape = (size, *pixels.shape[1:])
        sharding = placement.batch_sharding
        local = weights[placement.local_rows(size)]
        collector.add(
            jax.make_array_from_process_local_data(sharding, pixels, shape),
            weights,
            jax.make_array_from_process_local_data(sharding, local, (size,)),
            value_range,
        )
    if reader.bad and is_primary:
        _report_bad(images, reader.bad)
    found = collector.finish()
    reader.record_facts(found)
    return found


def _report_bad(images: ImageSet, bad: dict[int, str]) -> None:
    for index, reason in list(bad.items())[:MAX_NAMED]:
        log_line(f"left out {escape_control_characters(images.names[index])}: {reason}")
    if len(bad) > MAX_NAMED:
        log_line(f"and {len(bad) - MAX_NAMED:,} more left out")


class _Reader:
    """Reads a set in batches: (images of this process's rows, weights of all rows)."""

    def __init__(
        self,
        images: ImageSet,
        extractor: Extractor,
        rows: np.ndarray,
        batch_size: int,
        skip_bad: bool,
        threads: int,
    ):
        self._images, self._extractor = images, extractor
        self._rows, self._batch_size = rows, batch_size
        self._skip_bad, self._threads = skip_bad, threads
        self._is_alone = jax.process_count() == 1
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._conversions: Counter[str] = Counter()
        self._digests: dict[int, np.ndarray] = {}
        self._float_shape = (*np.shape(images.load(0))[:2], 3) if images.is_float else None
        self.bad: dict[int, str] = {}

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        count, size = len(self._images), self._batch_size
        for start, read in self._read_batches():
            weights = np.zeros(size, np.float32)
            weights[: min(size, count - start)] = 1
            whole = [one for one in read if one is not None]
            for one in whole:
                if one.pixels is None:
                    weights[one.index - start] = 0
                self._note(one)
            yield self._stack(read), weights

    def _read_batches(self) -> Iterator[tuple[int, list["_Read | None"]]]:
        """Yields the first index of each batch, and its images in the order of the rows."""
        count = len(self._images)
        wanted = [
            (start, [start + row if start + row < count else None for row in self._rows.tolist()])
            for start in range(0, count, self._batch_size)
        ]
        with ThreadPoolExecutor(max(self._threads, 1)) as pool:
            running: deque[tuple[int, list[Future[_Read] | None]]] = deque()
            ahead = 0
            for start, indices in wanted:
                running.append(
                    (start, [None if i is None else self._begin(pool, i) for i in indices])
                )
                ahead += len(indices)
                while ahead > AHEAD or len(running) > 2:
                    begun = running.popleft()
                    ahead -= len(begun[1])
                    yield begun[0], _wait(begun[1])
            for begun in running:
                yield begun[0], _wait(begun[1])

    def _begin(self, pool: ThreadPoolExecutor, index: int) -> "Future[_Read]":
        # Loaded here, in order: archives are read by one thread.
        try:
            item = self._images.load(index)
        except DataError as error:
            return pool.submit(_fail, index, str(error))
        return pool.submit(self._decode, index, item)

    def _decode(self, index: int, item: bytes | np.ndarray) -> _Read:
        try:
            if self._images.is_float and isinstance(item, np.ndarray):
                return _Read(index, item.astype(np.float32), item.shape[:2], hash_pixels(item))
            pixels, conversions = decode_rgb(item)
        except DataError as error:
            return _fail(index, str(error))
        size, digest = pixels.shape[:2], hash_pixels(pixels)
        if self._has_several_sizes or size[0] * size[1] > LARGE:
            pixels = self._resize(pixels)
        return _Read(index, pixels, size, digest, conversions)

    @property
    def _has_several_sizes(self) -> bool:
        """Whether images are resized here: several processes cannot know each other's sizes."""
        return not self._is_alone or len(self._sizes) > 1

    def _resize(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.dtype != np.uint8:
            return pixels
        rule, target = self._extractor.preset.resize, self._extractor.image_size
        return resize_images(pixels[None], rule, target)[0]

    def _note(self, one: _Read) -> None:
        if one.pixels is None:
            name = escape_control_characters(self._images.names[one.index])
            if not self._skip_bad:
                raise DataError(
                    f"{self._images.name}: {name}: {one.error}; remove it, or leave such images "
                    "out with --skip-bad"
                )
            self.bad[one.index] = one.error
            return
        self._sizes[one.size] += 1
        self._conversions.update(one.conversions)
        assert one.digest is not None
        self._digests[one.index] = one.digest

    def _stack(self, read: list["_Read | None"]) -> np.ndarray:
        """Returns the images of a batch, resized here if the set has several sizes."""
        target = self._extractor.image_size
        rows = {
            row: one.pixels
            for row, one in enumerate(read)
            if one is not None and one.pixels is not None
        }
        if self._images.is_float:
            # Grey is repeated by the assignment below.
            rows = {row: x[..., None] if x.ndim == 2 else x for row, x in rows.items()}
        elif self._has_several_sizes:  # of which some were decoded before that was known
            rows = {row: self._resize(x) for row, x in rows.items()}
        # A process whose rows are all padding has no image: those of others are resized, or floats.
        is_float = self._images.is_float or not self._is_alone
        empty = np.zeros(self._float_shape or (target, target, 3), np.float32 if is_float else "u1")
        first = next(iter(rows.values()), empty)
        into = np.zeros((len(read), *first.shape[:2], 3), first.dtype)
        for row, pixels in rows.items():
            into[row] = pixels
        return into

    def record_facts(self, found: FeatureSet) -> None:
        """Adds labels, digests, and what was read how."""
        images = self._images
        kept = np.array([i for i in range(len(images)) if i not in self.bad], np.int64)
        found.rows = kept
        found.labels = None if images.labels is None else np.asarray(images.labels)[kept]
        found.class_names = images.class_names
        found.notes += images.notes
        if self._sizes:
            found.facts["image_size"] = format_sizes(self._sizes)
        if len(self._sizes) > 1:
            found.notes.append(
                f"images of {format_sizes(self._sizes)}: each was resized by itself, where other "
                "programs stop, or resize all to one size first"
            )
        found.notes += format_counts(self._conversions)
        if self.bad:
            found.notes.append(f"{len(self.bad):,} images that cannot be read were left out")
        if images.nested and not self._extractor.preset.recurses:
            found.notes.append(
                f"{images.nested:,} images are in folders below it, which "
                f"{self._extractor.preset.program} does not read by default"
            )
        if self._is_alone:
            found.digests = np.stack([self._digests[i] for i in kept.tolist()])
            copies = find_copies(found.digests)
            if copies:
                index, first = copies[0]
                found.notes.append(
                    f"{len(copies):,} images repeat another, pixel for pixel: "
                    f"{images.names[kept[index]]} is {images.names[kept[first]]}"
                )
        found.facts["images"] = found.images_digest


def _wait(begun: list[Future[_Read] | None]) -> list[_Read | None]:
    return [None if one is None else one.result() for one in begun]


def _fail(index: int, reason: str) -> _Read:
    return _Read(index, None, error=reason)
