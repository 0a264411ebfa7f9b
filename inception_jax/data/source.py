"""What an example is, and what a source of examples is: anything with a length whose items are examples."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class DataError(ValueError):
    """Data that is missing or cannot be read; the message says what was found and what to do."""

    exit_code = 65


class Example(NamedTuple):
    """An encoded image (JPEG, PNG, ...), or its pixels as uint8 [H, W] or [H, W, C]; its class; and its file, if it has one."""

    image: bytes | np.ndarray
    label: int
    name: str = ""

    def at(self, index: int) -> str:
        """What an error calls it."""
        return f"example {index} ({self.name})" if self.name else f"example {index}"


class Source(Protocol):
    """Random access to examples. Reading item i twice gives the same example."""

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


class PartSource:
    """A range of another source."""

    def __init__(self, whole: Source, part: range):
        self.class_names = whole.class_names
        self._whole, self._part = whole, part

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> Example:
        return self._whole[self._part[index]]
