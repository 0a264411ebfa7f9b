"""The card of a weights file: its network, input, classes and origin."""

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

CARD_FORMAT_VERSION = 2
"""Version of the card. Version 1 has no `release`, `digest`, `tuned_from` and orientation;
images had none applied.
"""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Card:
    """The card of a weights file.

    Attributes:
      model: The network as a recipe's section; `aux` if its auxiliary heads are in the file.
      data: Its input: `image_size`, `test_crop`, `test_crop_fraction`, `resize`, `scaling`,
        `margin`, `binarize` and `orientation`.
      num_classes: Number of classes.
      class_names: Names of its own classes; none for ImageNet's.
      class_offset: Number of classes before ImageNet's first.
      source: The project in whose format the original file was, or the origin of other weights.
      file: Name of the original file.
      sha256: SHA-256 of the original file.
      release: Id of the project's release; unknown where the arrays are of none.
      licence: Licence of the weights as the project states it; unknown where it states none.
      tuned_from: Facts of the weights that these were initialised from: `source`, `file`, `sha256`,
        `release`, `licence`, `digest` and `tuned_from`; empty for a random initialisation.
      digest: Digest of the arrays of this card's file (`hash_arrays`); empty without a file.
      published: `top1` and `top5` (fractions) as the project publishes them, and `known_by`; empty
        for an unknown file.
      parity: `against`, `size` and, for each end point, the largest error over the largest value;
        see `verify`.
      format_version: Version of this form.
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
    format_version: int = CARD_FORMAT_VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the names of all classes in the order of the classifier."""
        return self.class_names or (
            classes.list_class_names(self.num_classes, self.class_offset)
            if self.num_classes
            else ()
        )

    @property
    def experiment(self) -> Experiment:
        """Returns the card as the configuration of a run."""
        return Experiment(self.model, data=self.data)

    def to_json(self) -> str:
        """Returns the card in the form that `parse_card` reads."""
        fields = {
            **dataclasses.asdict(self),
            "data": {name: getattr(self.data, name) for name in INPUT_FIELDS},
        }
        return format_json({**fields, "format_version": CARD_FORMAT_VERSION}, indent=1)

    @property
    def lineage(self) -> dict[str, Any]:
        """Returns the facts that a card of weights tuned from these keeps as `tuned_from`."""
        return {name: getattr(self, name) for name in LINEAGE}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Returns the numbers of the preprocessing, for users of an export."""
        mean, deviation = SCALINGS[self.data.scaling]
        fed = {name: getattr(self.data, name) for name in INPUT_FIELDS}
        return {
            **fed,
            "mean": list(mean),
            "std": list(deviation),
            "pixel_range": [0, 1],
            "channels": "RGB",
            "layout": "NHWC",
        }


LINEAGE = ("source", "file", "sha256", "release", "licence", "digest", "tuned_from")
INPUT_FIELDS = (
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
    """Returns the SHA-256 of named arrays with their shapes and dtypes, sorted by name."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name}\0{value.dtype.str}\0{value.shape}\n".encode(errors="surrogateescape"))
        found.update(value.view(np.uint8).data if value.size else b"")
    return found.hexdigest()


def parse_card(text: str, where: str) -> Card:
    """Returns the card that `Card.to_json` wrote.

    Args:
      where: Name of the file, for messages.

    Raises:
      DataError: It has another form.
    """
    try:
        fields = json.loads(text)
        version = fields["format_version"]
        if version not in (1, CARD_FORMAT_VERSION) or type(version) is not int:
            raise DataError(
                f"{where} has a card of format {version!r:.20}; this version reads up to "
                f"{CARD_FORMAT_VERSION}: use the one that wrote it"
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
                f"there are {len(card.class_names)} names for {card.num_classes} classes, the "
                "first "
                f"of them {card.class_offset}"
            )
        return card
    except DataError:
        raise
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where} has a card that cannot be read ({error}): convert the weights again"
        ) from error
