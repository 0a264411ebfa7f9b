"""Examples, and sources of examples: anything with a length whose items are examples."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from inception_jax.errors import ExitCode, UserError


class DataError(UserError, ValueError):
    """Data that is missing or cannot be read; the message says what was found and what to do."""

    exit_code = ExitCode.DATA


class Example(NamedTuple):
    """A labelled image.

    Attributes:
      image: An encoded image (JPEG, PNG, ...), or pixels [H, W] or [H, W, C] uint8.
      label: The class, from 0.
      name: The name of its file, if it has one.
    """

    image: bytes | np.ndarray
    label: int
    name: str = ""

    def format_location(self, index: int) -> str:
        """Returns a description for messages: `example 7 (cat/3.jpg)`."""
        return f"example {index} ({self.name})" if self.name else f"example {index}"


class StoredArrays(NamedTuple):
    """All examples of a source that holds their pixels in memory.

    Attributes:
      images: [N, H, W] or [N, H, W, C] uint8, C 1 or 3.
      labels: [N] int.
    """

    images: np.ndarray
    labels: np.ndarray


class Source(Protocol):
    """Random access to examples. Item i is always the same example.

    A source may have a method `fingerprint() -> str`, whose text changes with the names or sizes of
    its files: a resumed run and all processes of a run must have the same. It may have `labels`
    [N], where they are known without reading examples, and a method
    `arrays() -> StoredArrays | None`, where all pixels are in memory.
    """

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass
class ArraySource:
    """Examples held in memory."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]))

    def arrays(self) -> StoredArrays | None:
        """Returns the images and labels; None if the images are encoded or of several sizes."""
        images = self.images
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim < 3:
            return None
        is_grey_or_rgb = images.shape[3:] in ((), (1,), (3,))
        return StoredArrays(images, self.labels) if is_grey_or_rgb else None

    def fingerprint(self) -> str:
        """Returns the fingerprint of all labels and images."""
        found = hashlib.sha256(np.ascontiguousarray(self.labels, np.int64).tobytes())
        for image in self.images:
            found.update(
                image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()
            )
        return found.hexdigest()[:16]


def find_stored_arrays(source: Source) -> StoredArrays | None:
    """Returns the arrays of a source that has them in memory, else None."""
    return getattr(source, "arrays", lambda: None)()


class PartSource:
    """Some examples of another source.

    Args:
      part: Their numbers there, in the order of this source.
    """

    def __init__(self, whole: Source, part: Sequence[int]):
        self.class_names = whole.class_names
        self._whole, self._part = whole, part

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> Example:
        return self._whole[self._part[index]]

    @property
    def labels(self) -> np.ndarray:
        """Returns the labels of the part where they are known without reading, else none."""
        known = np.asarray(getattr(self._whole, "labels", ()))
        return known[np.asarray(self._part, np.int64)] if len(known) else known

    def arrays(self) -> StoredArrays | None:
        """Returns those of the part, where the other source has some."""
        whole = find_stored_arrays(self._whole)
        if whole is None:
            return None
        part = self._part
        chosen = (
            slice(part.start, part.stop) if isinstance(part, range) else np.asarray(part, np.int64)
        )
        return StoredArrays(whole.images[chosen], whole.labels[chosen])

    def fingerprint(self) -> str | None:
        """Returns the fingerprint of the other source with the part."""
        whole = getattr(self._whole, "fingerprint", lambda: None)()
        if isinstance(self._part, range):
            return whole and f"{whole}[{self._part.start}:{self._part.stop}]"
        part = np.asarray(self._part, np.int64).tobytes()
        return whole and f"{whole}[{hashlib.sha256(part).hexdigest()[:16]}]"


def split_by_class(
    source: Source, part: Literal["train", "test"], fraction: float, seed: int
) -> PartSource:
    """Returns the training or the held-out part of a source without splits.

    `fraction` of each class is held out, rounded, at least one example and not all. The choice
    depends on the seed, the class and its number of examples.

    Raises:
      DataError: A class has one example, or labels are not known without reading examples.
    """
    labels = np.asarray(getattr(source, "labels", ()))
    if len(labels) != len(source):
        raise DataError(
            "data.holdout needs a dataset whose labels are known without reading images: give "
            "one with splits"
        )
    counts = np.bincount(labels, minlength=len(source.class_names))
    if few := [name for name, count in zip(source.class_names, counts, strict=True) if count < 2]:
        raise DataError(
            f"{', '.join(few[:5])}: {len(few)} classes have one image, of which none can be held "
            "out: give each class two images or more"
        )
    chosen = []
    for label, count in enumerate(counts):
        own = np.flatnonzero(labels == label)
        held_out = min(max(round(fraction * count), 1), count - 1)
        mixed = np.random.default_rng((seed, label)).permutation(own)
        chosen.append(mixed[:held_out] if part == "test" else mixed[held_out:])
    return PartSource(source, np.sort(np.concatenate(chosen)).tolist())
