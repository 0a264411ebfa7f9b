"""A file of another project as our variables and their card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.config import ConfigError, Model
from inception_jax.data.source import DataError
from inception_jax.models import ALIASES
from inception_jax.nn.network import Network
from inception_jax.weights import read, releases
from inception_jax.weights.cards import Card
from inception_jax.weights.convert import ours
from inception_jax.weights.origin import Origin
from inception_jax.weights.sources import SOURCES


class Imported(NamedTuple):
    """Variables of ours, what is known of them, their network, and the arrays that they were, by their names there."""

    card: Card
    variables: dict[str, Any]
    network: Network
    arrays: dict[str, np.ndarray]


def origin(source: str, model: str) -> Origin:
    """How `source` publishes `model`, which may also be called as it is there.

    Raises:
      ConfigError: it publishes no such model, or is not known; the message says what there is.
    """
    if source not in SOURCES:
        raise ConfigError(f"no project is called {source!r}; there are {', '.join(SOURCES)}")
    name = ALIASES.get(model, model)
    if name not in SOURCES[source]:
        raise ConfigError(f"{source} has no {model!r} that this package knows; it has {', '.join(SOURCES[source])}")
    return SOURCES[source][name]


def imported(
    source: str,
    model: str,
    weights: str | Path | Mapping[str, Any],
    *,
    class_offset: int | None = None,
    class_names: Sequence[str] = (),
) -> Imported:
    """The weights of `source`'s `model` as they are here.

    Args:
      weights: a file (see `read`), or its arrays by name (a state dict).
      class_offset: classes before ImageNet's first, where the number of classes does not tell.
      class_names: of all classes, where they are not ImageNet's.

    Raises:
      DataError: a file that cannot be read, arrays of another network, a head whose classes are not known.
      ConfigError: no such model, or the library that reads the file is missing.
    """
    there = origin(source, model)
    file, digest = "", ""
    if isinstance(weights, str | Path):
        file, digest = Path(weights).name, read.sha256(Path(weights))
        arrays = read.read(Path(weights))
    else:
        arrays = {name: np.asarray(value) for name, value in weights.items()}
    network, variables = ours(there, arrays)
    names, offset = _classes(source, there, network.num_classes, class_offset, tuple(class_names))
    release = releases.known(source, there.model, file, digest)
    card = Card(
        Model(there.model, there.variant, aux=network.aux), releases.fed(release, there.data), network.num_classes, names, offset,
        source, file, digest, there.licence, releases.published(release) if release else {},
    )  # fmt: skip
    return Imported(card, variables, network, arrays)


def _classes(source: str, there: Origin, count: int, offset: int | None, names: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Names of its own, or none and the offset of ImageNet's.

    Raises:
      DataError: neither is known.
    """
    if names:
        if len(names) != count:
            raise DataError(f"the head has {count} classes, and {len(names)} names are given for them")
        return names, 0
    if there.class_name and count in dict(there.offsets):
        return tuple(there.class_name.format(i) for i in range(count)), 0
    known = dict(there.offsets).get(count) if offset is None else offset
    if known is None or not 0 <= known <= count - 1000:
        expected = ", ".join(str(classes) for classes, _ in there.offsets)
        raise DataError(
            f"a head of {count} classes; {source} publishes {there.model} with {expected}, so that it is not known which class is which: "
            "give --class-names FILE (a name on each line), or, with ImageNet's thousand among them, --class-offset N, those before them"
        )
    return (), known
