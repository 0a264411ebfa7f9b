"""The features of a set: moments, blocks of the jackknife, and kept features."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inception_jax.data.source import DataError
from inception_jax.generative.frechet import FeatureMoments, moments_from_rows
from inception_jax.generative.scores import JACKKNIFE_BLOCKS, MIN_BLOCKS, assign_blocks
from inception_jax.generative.statistics import FeatureSums


@dataclass
class FeatureSet:
    """A set of images under a preset.

    Attributes:
      name: Name of the set.
      moments: FeatureMoments of the pooled features.
      spatial: FeatureMoments of the spatial features (sFID); None where they were not computed.
      features: [N, d] float32, memory-mapped; None where they were not kept.
      logits: [N, K] float32, likewise.
      labels: [N] int; None where they are not known.
      class_names: Names of the classes.
      rows: [N] int, the index of each row's image in its set, where some were skipped.
      blocks: FeatureSums of the blocks of the jackknife; none where there are none.
      spatial_blocks: Likewise of the spatial features.
      num_blocks: Blocks of the jackknife that were asked for; 0 for no interval.
      digests: [N, 16] uint8, one for the pixels of each image; None where they are not known.
      facts: What a file of statistics records.
      notes: What a user has to know, in sentences.
    """

    name: str
    moments: FeatureMoments
    spatial: FeatureMoments | None = None
    features: np.ndarray | None = None
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    rows: np.ndarray | None = None
    blocks: "ParkedBlocks | None" = None
    spatial_blocks: "ParkedBlocks | None" = None
    num_blocks: int = JACKKNIFE_BLOCKS
    digests: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int | None:
        """Returns the number of images; None for statistics that do not record it."""
        return self.moments.count

    @property
    def images_digest(self) -> str:
        """Returns a digest of the images, whatever their order; empty where it is not known."""
        if self.digests is None:
            return str(self.facts.get("images", ""))
        return hash_images(self.digests)

    def require(self, kept: str, metric: str) -> np.ndarray:
        """Returns kept arrays, `features`, `logits` or `labels`.

        Raises:
          DataError: They were not kept.
        """
        found = getattr(self, kept)
        if found is None:
            remedy = (
                "give folders of classes, or a dataset with labels"
                if kept == "labels"
                else "give its images, or statistics made with --keep-features"
            )
            raise DataError(
                f"{metric} needs the {kept} of all images, which {self.name} has not: {remedy}"
            )
        return found

    def list_left_out(self, spatial: bool = False) -> "LeftOutMoments | None":
        """Returns the moments without each block of the jackknife; None where there are too few."""
        moments = self.spatial if spatial else self.moments
        assert moments is not None
        if moments.rows is not None:
            blocks = min(self.num_blocks, len(moments.rows))
            return LeftOutMoments(moments, None, blocks) if blocks >= MIN_BLOCKS else None
        parked = self.spatial_blocks if spatial else self.blocks
        # One batch is one block: few batches have no interval.
        if parked is None or len(parked) < MIN_BLOCKS:
            return None
        return LeftOutMoments(moments, parked, len(parked))


@dataclass
class LeftOutMoments:
    """The moments of a set without each of its blocks: an index -> moments."""

    complete: FeatureMoments
    parked: "ParkedBlocks | None"
    blocks: int

    def __call__(self, block: int) -> FeatureMoments:
        if self.parked is not None:
            return self.parked.total.subtract(self.parked[block]).to_moments()
        assert self.complete.rows is not None
        kept = assign_blocks(len(self.complete.rows), self.blocks) != block
        found = moments_from_rows(self.complete.rows[kept])
        return FeatureMoments(
            found.count, found.mean + self.complete.mean, found.stored_covariance, found.rows
        )


class ParkedBlocks:
    """Sums of the blocks of a set in a file, read one by one: in memory they would be 168 MB."""

    def __init__(self, total: FeatureSums, blocks: Iterable[FeatureSums]):
        """Writes blocks to a file without a name."""
        self.total = total
        self._counts: list[int] = []
        self._size = len(total.mean)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        for block in blocks:
            self._counts.append(block.count)
            for array in (block.mean, block.product):
                self._file.write(np.ascontiguousarray(array, np.float32).data)
        self._file.flush()

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, index: int) -> FeatureSums:
        size = self._size
        self._file.seek(index * 4 * size * (size + 1))
        found = np.fromfile(self._file, np.float32, size * (size + 1))
        return FeatureSums(self._counts[index], found[:size], found[size:].reshape(size, size))


class RowFile:
    """Rows of float32 numbers that grow on disk, and are memory-mapped at the end.

    The file has no name, so that nothing is left behind by a process that is killed.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._size = 0
        self.count = 0

    def append(self, rows: np.ndarray) -> None:
        """Appends rows [B, d].

        Raises:
          OSError: The disk is full.
        """
        self._size = rows.shape[1]
        self.count += len(rows)
        self._file.write(np.ascontiguousarray(rows, np.float32).data)

    def read(self) -> np.ndarray:
        """Returns all rows [N, d], memory-mapped."""
        self._file.flush()
        if not self.count:
            return np.zeros((0, self._size), np.float32)
        return np.memmap(self._file, np.float32, "r", shape=(self.count, self._size))


def hash_pixels(pixels: np.ndarray) -> np.ndarray:
    """Returns a digest [16] uint8 of the shape and the pixels of an image."""
    found = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).data)
    return np.frombuffer(found.digest(), np.uint8)


def hash_images(digests: np.ndarray) -> str:
    """Returns a digest of the digests [N, 16] of images in any order."""
    ordered = sorted(row.tobytes() for row in digests)
    return hashlib.sha256(b"".join(ordered)).hexdigest()


def find_copies(digests: np.ndarray) -> list[tuple[int, int]]:
    """Returns (index, index of the first image like it) of each image that repeats another."""
    first: dict[bytes, int] = {}
    found = []
    for index, row in enumerate(digests):
        before = first.setdefault(row.tobytes(), index)
        if before != index:
            found.append((index, before))
    return found


def count_shared(first: np.ndarray | None, second: np.ndarray | None) -> int:
    """Returns how many images of the second set are in the first, by their digests [N, 16].

    0 where digests are not known.
    """
    if first is None or second is None:
        return 0
    known = {row.tobytes() for row in first}
    return sum(row.tobytes() in known for row in second)


def format_counts(counts: Counter[str]) -> Iterator[str]:
    """Yields a note for each kind of conversion."""
    for kind, count in counts.most_common():
        yield f"{count:,} images converted: {kind}"


def format_sizes(sizes: Counter[tuple[int, int]]) -> str:
    """Returns the sizes of images as text, `64x64` or `3 sizes, mostly 64x64`."""
    (height, width), _ = sizes.most_common(1)[0]
    common = f"{width}x{height}"
    return common if len(sizes) == 1 else f"{len(sizes):,} sizes, mostly {common}"
