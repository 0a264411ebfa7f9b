"""The record of a run's data: class names, sizes, and a fingerprint of each split."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from inception_jax.data.source import DataError, Source

FEW = 5
"""Classes that a message names."""


class SplitFacts(NamedTuple):
    """The facts of a split.

    Attributes:
      name: `train`, or a part of it: `train[:1000]`.
      examples: Number of examples.
      fingerprint: Fingerprint of the files' names and sizes; None if the source has none.
    """

    name: str
    examples: int
    fingerprint: str | None

    @classmethod
    def from_source(cls, name: str, source: Source) -> Self:
        """Returns the facts of an open source."""
        fingerprint = getattr(source, "fingerprint", None)
        return cls(name, len(source), fingerprint() if fingerprint else None)


class DataFacts(NamedTuple):
    """The classes of a run's data in the order of their labels, and both splits."""

    class_names: tuple[str, ...]
    train: SplitFacts
    test: SplitFacts

    def to_json(self) -> dict[str, Any]:
        """Returns the facts in the form that `from_json` reads."""
        return {
            "class_names": list(self.class_names),
            "train": self.train._asdict(),
            "test": self.test._asdict(),
        }

    @classmethod
    def from_json(cls, fields: Any) -> Self:
        """Returns the facts that `to_json` wrote.

        Raises:
          DataError: The fields are others.
        """
        try:
            splits = [SplitFacts(**fields[name]) for name in ("train", "test")]
            names = tuple(fields["class_names"])
            if not all(isinstance(name, str) for name in names) or not all(
                type(split.examples) is int for split in splits
            ):
                raise TypeError("wanted are class names and numbers of examples")
            return cls(names, *splits)
        except (TypeError, KeyError) as error:
            raise DataError(f"{str(fields)[:60]!r} does not tell of data ({error!r})") from error


def list_changes(before: DataFacts, now: DataFacts) -> list[str]:
    """Returns a line for each fact that changed: `train: 1,347 -> 1,400 examples`."""
    lines = list(_class_changes(before.class_names, now.class_names))
    return lines + [
        line
        for a, b in ((before.train, now.train), (before.test, now.test))
        for line in list_split_changes(a, b)
    ]


def list_split_changes(before: SplitFacts, now: SplitFacts) -> list[str]:
    """Returns a line for each change of a split.

    Returns none if the run asks for another split, or if a fingerprint is missing.
    """
    if before.name != now.name:
        return []
    if before.examples != now.examples:
        return [f"{now.name}: {before.examples:,} -> {now.examples:,} examples"]
    if None not in (before.fingerprint, now.fingerprint) and before.fingerprint != now.fingerprint:
        return [
            f"{now.name}: files of other names or sizes ({before.fingerprint} -> {now.fingerprint})"
        ]
    return []


def _class_changes(before: tuple[str, ...], now: tuple[str, ...]) -> Iterable[str]:
    gone, new = (
        [name for name in before if name not in now],
        [name for name in now if name not in before],
    )
    if gone or new:
        lists = [
            f"{', '.join(names[:FEW])}{' ...' if len(names) > FEW else ''}" for names in (gone, new)
        ]
        yield (
            f"classes: {len(before)} -> {len(now)}; gone: {lists[0] or 'none'}; new: "
            f"{lists[1] or 'none'}"
        )
    elif before != now:
        label = next(i for i, name in enumerate(before) if name != now[i])
        yield f"classes: in another order; label {label} was {before[label]} and is {now[label]}"


def hash_file_list(files: Iterable[tuple[str, int]], more: Mapping[str, Any] | None = None) -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of names and sizes, and of further facts."""
    found = hashlib.sha256(repr(sorted((more or {}).items())).encode())
    for name, size in files:
        found.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:16]
