"""What is known of a file of weights: its network, what that is fed, what its classes mean, and where it comes from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inception_jax.atomic_io import format_json
from inception_jax.config import ConfigError, Data, Experiment, Model, build_section
from inception_jax.data.augment import SCALINGS
from inception_jax.data.source import DataError
from inception_jax.weights import classes

FORMAT_VERSION = 2
"""1 had no `release`, `digest` and `tuned_from`, and no orientation: images were not turned."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Card:
    """
    Attributes:
      model: the network, in the words of a recipe; `aux` where its auxiliary heads are in the file.
      data: what it is fed: `image_size`, `test_crop`, `test_crop_fraction`, `resize`, `scaling`, `margin`, `binarize` and `orientation`.
      num_classes: of its head.
      class_names: its own; none where they are ImageNet's.
      class_offset: classes that stand before ImageNet's first.
      source: the project whose format the file was in which this was converted from, or what else made it.
      file, sha256: that file's name and the hash of its bytes.
      release: which of the project's releases it is; unknown where the arrays are no known one.
      licence: of the weights, as their project states it; unknown where nothing states it.
      tuned_from: what the weights were initialised from, a card's `source`, `file`, `sha256`, `release`, `licence`, `digest` and
        `tuned_from`; empty where from nothing.
      digest: of the arrays of the file that the card is of (`hash_arrays`); empty where it is of none.
      published: `top1` and `top5` (fractions) as their project publishes them, and `known_by`; none where the file is not known.
      parity: `against`, `size` and, for each end point, the largest error, over the largest value; see `verify`.
    """

    model: Model
    data: Data
    num_classes: int
    class_names: tuple[str, ...] = ()
    class_offset: int = 0
    source: str = ""
    file: str = ""
    sha256: str = ""
    release: str = UNKNOWN
    licence: str = UNKNOWN
    tuned_from: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    published: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """Of all classes, in the order of the head."""
        return self.class_names or (
            classes.list_class_names(self.num_classes, self.class_offset)
            if self.num_classes
            else ()
        )

    @property
    def experiment(self) -> Experiment:
        """As if it were a run."""
        return Experiment(self.model, data=self.data)

    def to_json(self) -> str:
        fields = {
            **dataclasses.asdict(self),
            "data": {name: getattr(self.data, name) for name in FED},
        }
        return format_json({**fields, "format_version": FORMAT_VERSION}, indent=1)

    @property
    def lineage(self) -> dict[str, Any]:
        """Returns the facts that a card of weights tuned from these keeps as `tuned_from`."""
        return {name: getattr(self, name) for name in LINEAGE}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Returns the steps between an image and the network, in numbers, for those who run an export."""
        mean, deviation = SCALINGS[self.data.scaling]
        fed = {name: getattr(self.data, name) for name in FED}
        return {
            **fed,
            "mean": list(mean),
            "std": list(deviation),
            "pixel_range": [0, 1],
            "channels": "RGB",
            "layout": "NHWC",
        }


LINEAGE = ("source", "file", "sha256", "release", "licence", "digest", "tuned_from")
FED = (
    "image_size",
    "test_crop",
    "test_crop_fraction",
    "resize",
    "scaling",
    "margin",
    "binarize",
    "orientation",
)
"""The fields of a recipe's data that a trained network cannot do without."""


def hash_arrays(arrays: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of arrays by their names, with their shapes and types, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name}\0{value.dtype.str}\0{value.shape}\n".encode(errors="surrogateescape"))
        found.update(value.view(np.uint8).data if value.size else b"")
    return found.hexdigest()


def parse_card(text: str, where: str) -> Card:
    """The card that `to_json` wrote.

    Raises:
      DataError: it cannot be understood; `where` says what it is of.
    """
    try:
        fields = json.loads(text)
        version = fields["format_version"]
        if version not in (1, FORMAT_VERSION) or type(version) is not int:
            raise DataError(
                f"{where} has a card of format {version!r:.20}; this version reads up to "
                f"{FORMAT_VERSION}: use the one that wrote it"
            )
        fields["data"] = {
            "orientation": "ignore",
            **fields["data"],
        }  # as images were read before there was a choice
        card: Card = build_section(Card, fields, "")
        card.experiment.check()
        if min(card.num_classes, card.class_offset) < 0 or (
            card.class_names and len(card.class_names) != card.num_classes
        ):
            raise ValueError(
                f"there are {len(card.class_names)} names for {card.num_classes} classes, the first "
                f"of them {card.class_offset}"
            )
        return card
    except DataError:
        raise
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where} has a card that cannot be read ({error}): convert the weights again"
        ) from error
