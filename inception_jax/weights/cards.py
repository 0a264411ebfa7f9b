"""What is known of a file of weights: its network, what that is fed, what its classes mean, and where it comes from."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from inception_jax.config import ConfigError, Data, Experiment, Model, from_json
from inception_jax.data.source import DataError
from inception_jax.files import json_text
from inception_jax.weights import classes

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Card:
    """
    Attributes:
      model: the network, in the words of a recipe; `aux` where its auxiliary heads are in the file.
      data: what it is fed: `image_size`, `test_crop`, `test_crop_fraction`, `resize`, `scaling`, `margin` and `binarize`.
      num_classes: of its head.
      class_names: its own; none where they are ImageNet's.
      class_offset: classes that stand before ImageNet's first.
      source: the project that published the file which this was converted from, or what else made it.
      file, sha256: that file's name and the hash of its bytes.
      licence: of the weights, as their project states it.
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
    licence: str = ""
    published: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all classes, in the order of the head."""
        return self.class_names or classes.names(self.num_classes, self.class_offset)

    @property
    def experiment(self) -> Experiment:
        """As if it were a run."""
        return Experiment(self.model, data=self.data)

    def to_json(self) -> str:
        fields = {**dataclasses.asdict(self), "data": {name: getattr(self.data, name) for name in FED}}
        return json_text({"format_version": FORMAT_VERSION, **fields}, indent=1)


FED = ("image_size", "test_crop", "test_crop_fraction", "resize", "scaling", "margin", "binarize")
"""The fields of a recipe's data that a trained network cannot do without."""


def read(text: str, where: str) -> Card:
    """The card that `to_json` wrote.

    Raises:
      DataError: it cannot be understood; `where` says what it is of.
    """
    try:
        fields = json.loads(text)
        version = fields.pop("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{where} has a card of format {version}; this version reads {FORMAT_VERSION}: use the release that wrote it")
        told = from_json({"model": fields.pop("model"), "data": fields.pop("data")})
        return Card(told.model, told.data, **{**fields, "class_names": tuple(fields["class_names"])})
    except DataError:
        raise
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} has a card that cannot be read ({error}): convert the weights again") from error
