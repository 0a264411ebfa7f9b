"""What an example is, and what a source of examples is: anything with a length whose items are examples."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from inception_jax.errors import ExitCode, UserError


class DataError(UserError, ValueError):
    """Data that is missing or cannot be read; the message says what was found and what to do."""

    exit_code = ExitCode.DATA


class Example(NamedTuple):
    """An encoded image (JPEG, PNG, ...), or its pixels as uint8 [H, W] or [H, W, C]; its class; and its file, if it has one."""

    image: bytes | np.ndarray
    label: int
    name: str = ""

    def at(self, index: int) -> str:
        """What an error calls it."""
        return f"example {index} ({self.name})" if self.name else f"example {index}"


class Source(Protocol):
    """Random access to examples. Reading item i twice gives the same example.

    A source may have a method `fingerprint() -> str`, which returns another text where files have other names or sizes: by it a run that is
    resumed is held to its data, and the processes of a run to each other's. It may have `labels` [N], where they are known without reading.
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
        """Returns one of all labels and images, encoded or as pixels."""
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
        """Returns those of its examples, where the whole knows them without reading any; else none."""
        known = np.asarray(getattr(self._whole, "labels", ()))
        return known[self._part.start : self._part.stop]

    def fingerprint(self) -> str | None:
        """Returns that of the whole, and the range."""
        whole = getattr(self._whole, "fingerprint", lambda: None)()
        return whole and f"{whole}[{self._part.start}:{self._part.stop}]"
