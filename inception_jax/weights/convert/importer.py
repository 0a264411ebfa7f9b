"""Import of a file of another project: variables and their card."""

import re
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
from inception_jax.weights.releases import KnownRelease, find_release, format_published

SYNSET = re.compile(r"n\d{8}")
"""An id of WordNet, by which timm names ImageNet's classes."""


class ImportedWeights(NamedTuple):
    """Weights imported from another project.

    Attributes:
      card: Their card.
      variables: Variables of this package.
      network: The network that they fit.
      arrays: The project's arrays by name.
      source_spec: The network as the project publishes it.
      project: Name of the project.
      notes: Texts about how the arrays were found, for people.
      input_notes: Texts about where the facts of the input are from.
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
    """Returns the network as `source` publishes it.

    Args:
      source: Name of the project.
      model: Name of the network here, or in the project.

    Raises:
      ConfigError: The project or the model is unknown; the message lists the known ones.
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
    input_spec: Mapping[str, Any] | None = None,
    licence: str = "",
    origin_name: str = "",
    release: KnownRelease | None = None,
) -> ImportedWeights:
    """Returns the weights of `source`'s `model` as variables of this package.

    Args:
      weights: A file (see `readers`), its arrays by name (a state dict), or a checkpoint (see
        `selection`).
      class_offset: Number of classes before ImageNet's first, where the number of classes does not
        determine it.
      class_names: Names of all classes, if they are not ImageNet's.
      parameters: Choice between moving averages and raw arrays, for a checkpoint with both.
      input_spec: Fields of `Data` that override those of the file: `image_size`,
        `test_crop_fraction`, `resize`, `scaling`.
      licence: Licence of weights that are no known release.
      origin_name: Author of such weights.
      release: The release that the file is; default: found by its digests and its name.

    Raises:
      DataError: The file cannot be read, the arrays are of another network, or the classes are
        unknown.
      ConfigError: There is no such model, or the library that reads the file is missing.
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
        if config
        and len(config.class_names) == network.num_classes
        and not all(map(SYNSET.fullmatch, config.class_names))
        else ()
    )
    names, offset = _classes(source, there, network.num_classes, class_offset, known_names)
    digest = readers.hash_file(path) if path else ""
    release = release or find_release(
        source, there.model, path or "", digest, hash_arrays(flatten_dict(variables, sep="/"))
    )
    preprocessing = resolve_preprocessing(there.data, source, release, config, input_spec or {})
    card = Card(
        Model(there.model, there.variant, aux=network.aux), preprocessing.data, network.num_classes,
        names, offset, source=origin_name or source, file=path.name if path else "", sha256=digest,
        release=release.release.id if release else UNKNOWN,
        licence=licence or (release.release.licence if release else UNKNOWN),
        published=format_published(release) if release else {},
    )  # fmt: skip
    return ImportedWeights(
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
    """Returns own class names and 0, or none and the offset of ImageNet's classes.

    Raises:
      DataError: Neither is known.
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
