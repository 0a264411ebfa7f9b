"""Examples, and sources of examples: anything with a length whose items are examples."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


class Source(Protocol):
    """Random access to examples. Item i is always the same example.

    A source may have a method `fingerprint() -> str`, whose text changes with the names or sizes of
    its files: a resumed run and all processes of a run must have the same. It may have `labels`
    [N], where they are known without reading examples.
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

    def fingerprint(self) -> str:
        """Returns the fingerprint of all labels and images."""
        found = hashlib.sha256(np.ascontiguousarray(self.labels, np.int64).tobytes())
        for image in self.images:
            found.update(
                image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()
            )
        return found.hexdigest()[:16]


class PartSource:
    """A range of another source."""

    def __init__(self, whole: Source, part: range):
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
        return known[self._part.start : self._part.stop]

    def fingerprint(self) -> str | None:
        """Returns the fingerprint of the other source with the range."""
        whole = getattr(self._whole, "fingerprint", lambda: None)()
        return whole and f"{whole}[{self._part.start}:{self._part.stop}]"
