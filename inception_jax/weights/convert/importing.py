"""A file of another project as our variables and their card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from flax.traverse_util import flatten_dict

from inception_jax.config import ConfigError, Model
from inception_jax.data.source import DataError
from inception_jax.models import ALIASES
from inception_jax.nn.network import Network
from inception_jax.weights.cards import UNKNOWN, Card, hash_arrays
from inception_jax.weights.convert import readers, selection
from inception_jax.weights.convert.conversion import list_trunk_names, to_ours
from inception_jax.weights.convert.preprocessing import read_timm_config, resolve_preprocessing
from inception_jax.weights.convert.selection import Parameters
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.releases import find_release, format_published


class Imported(NamedTuple):
    """Variables of ours, what is known of them, their network, and the arrays that they were, by their names there.

    Attributes:
      origin, project: how and by whom such networks are published.
      notes: what was done to find the arrays, for people.
      fed_by: where it is known from what the network is fed.
    """

    card: Card
    variables: dict[str, Any]
    network: Network
    arrays: dict[str, np.ndarray]
    source_spec: SourceSpec
    project: str
    notes: tuple[str, ...] = ()
    input_notes: tuple[str, ...] = ()


def get_source_spec(source: str, model: str) -> SourceSpec:
    """How `source` publishes `model`, which may also be called as it is there.

    Raises:
      ConfigError: it publishes no such model, or is not known; the message says what there is.
    """
    if source not in SOURCES:
        raise ConfigError(f"no project is called {source!r}; there are {', '.join(SOURCES)}")
    name = ALIASES.get(model, model)
    if name not in SOURCES[source]:
        raise ConfigError(
            f"{source} has no {model!r} that this package knows; it has "
            f"{', '.join(SOURCES[source])}"
        )
    return SOURCES[source][name]


def import_weights(
    source: str,
    weights: str | Path | Mapping[str, Any],
    model: str,
    *,
    class_offset: int | None = None,
    class_names: Sequence[str] = (),
    parameters: Parameters = "averaged",
    fed: Mapping[str, Any] | None = None,
    licence: str = "",
    origin_name: str = "",
) -> Imported:
    """Returns the weights of `source`'s `model` as they are here.

    Args:
      weights: a file (see `read`), or its arrays by name (a state dict), or a checkpoint with such in it (see `selection`).
      class_offset: classes before ImageNet's first, where the number of classes does not tell.
      class_names: of all classes, where they are not ImageNet's.
      parameters: of a checkpoint that holds moving averages beside raw arrays.
      fed: fields of `Data` that are known better than by the file: `image_size`, `test_crop_fraction`, `resize`, `scaling`.
      licence, origin_name: of weights that are no known release: their licence, and who made them.

    Raises:
      DataError: a file that cannot be read, arrays of another network, a head whose classes are not known.
      ConfigError: no such model, or the library that reads the file is missing.
    """
    there = get_source_spec(source, model)
    path = Path(weights) if isinstance(weights, str | Path) else None
    tree = (
        readers.read_arrays(path)
        if path
        else selection.to_numpy_arrays(cast(Mapping[str, Any], weights))
    )
    selected = selection.select_arrays(tree, list_trunk_names(there), parameters=parameters)
    network, variables, notes = to_ours(there, selected.arrays)
    config = read_timm_config(path) if path else None
    known_names = tuple(class_names) or (
        config.class_names
        if config and len(config.class_names) == network.num_classes != 1000
        else ()
    )
    names, offset = _classes(source, there, network.num_classes, class_offset, known_names)
    digest = readers.hash_file(path) if path else ""
    release = find_release(
        source, there.model, path or "", digest, hash_arrays(flatten_dict(variables, sep="/"))
    )
    preprocessing = resolve_preprocessing(there.data, source, release, config, fed or {})
    card = Card(
        Model(there.model, there.variant, aux=network.aux), preprocessing.data, network.num_classes,
        names, offset, source=origin_name or source, file=path.name if path else "", sha256=digest,
        release=release.release.id if release else UNKNOWN,
        licence=licence or (release.release.licence if release else UNKNOWN),
        published=format_published(release) if release else {},
    )  # fmt: skip
    return Imported(
        card,
        variables,
        network,
        selected.arrays,
        there,
        source,
        (*selected.notes, *notes),
        preprocessing.sources,
    )


def _classes(
    source: str, there: SourceSpec, count: int, offset: int | None, names: tuple[str, ...]
) -> tuple[tuple[str, ...], int]:
    """Names of its own, or none and the offset of ImageNet's.

    Raises:
      DataError: neither is known.
    """
    if names:
        if len(names) != count:
            raise DataError(
                f"the head has {count} classes, and {len(names)} names are given for them"
            )
        return names, 0
    if not count:
        return (), 0
    if there.class_name and count in dict(there.offsets):
        return tuple(there.class_name.format(i) for i in range(count)), 0
    known = dict(there.offsets).get(count) if offset is None else offset
    if known is None or not 0 <= known <= count - 1000:
        expected = ", ".join(str(classes) for classes, _ in there.offsets)
        raise DataError(
            f"a head of {count} classes; {source} publishes {there.model} with {expected}, so that "
            "it is not known which class is which: give --class-names FILE (a name on each line), "
            "or, with ImageNet's thousand among them, --class-offset N, those before them"
        )
    return (), known
