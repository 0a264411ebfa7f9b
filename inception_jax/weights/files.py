"""Weights files: safetensors with the arrays under their paths, and the card as metadata."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from inception_jax.atomic_io import write_atomically
from inception_jax.data.source import DataError
from inception_jax.weights.cards import Card, hash_arrays, parse_card

CARD_DIGEST = "card_sha256"
REFERENCE_PREFIX = "reference/"
"""Before the names of the samples that `verify` compares with."""


class WeightsFile(NamedTuple):
    """The contents of a weights file.

    Attributes:
      card: Its card.
      variables: `{"params": ..., "batch_stats": ...}`, NumPy arrays.
      references: Samples of activations by end point.
    """

    card: Card
    variables: dict[str, Any]
    references: dict[str, np.ndarray]


def save(
    path: str | Path,
    card: Card,
    variables: Mapping[str, Any],
    references: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a weights file atomically.

    Raises:
      StorageError: It cannot be written.
    """
    arrays = {
        name: np.ascontiguousarray(value)
        for name, value in flatten_dict(variables, sep="/").items()
    }
    arrays |= {
        f"{REFERENCE_PREFIX}{name}": np.ascontiguousarray(value)
        for name, value in (references or {}).items()
    }
    text = replace(card, digest=hash_arrays(arrays)).to_json()
    write_atomically(
        epath.Path(path),
        to_bytes(arrays, {"card": text, CARD_DIGEST: _digest(text), "format": "inception_jax"}),
    )


def read_card(path: str | Path) -> Card:
    """Returns the card of a weights file without reading its arrays.

    Raises:
      DataError: It is no weights file of this package, or damaged.
    """
    with _opened(path) as file:
        return _card(file, path)


def read_file(path: str | Path) -> WeightsFile:
    """Returns the contents of a weights file, and checks its digests.

    Raises:
      DataError: It is no weights file of this package, or damaged: its arrays changed, are no
        floats, or are not finite.
    """
    with _opened(path) as file:
        found = _card(file, path)
        try:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # a type that NumPy does not have
            raise DataError(
                f"{path} has an array that cannot be read ({error}): convert or copy the file again"
            ) from error
    if found.format_version > 1 and hash_arrays(arrays) != found.digest:
        raise DataError(
            f"{path} is damaged: its arrays are not those that were written; copy or convert it "
            "again"
        )
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise DataError(
                f"{path}: {name} is {array.dtype}; weights are floats: convert them again"
            )
        if not np.isfinite(array).all():
            raise DataError(
                f"{path}: {name} is NaN or infinite in {np.count_nonzero(~np.isfinite(array))} "
                "places: it is of no use"
            )
    references = {
        name.removeprefix(REFERENCE_PREFIX): value
        for name, value in arrays.items()
        if name.startswith(REFERENCE_PREFIX)
    }
    return WeightsFile(
        found,
        {"params": {}, "batch_stats": {}}
        | unflatten_dict(
            {
                name: value
                for name, value in arrays.items()
                if not name.startswith(REFERENCE_PREFIX)
            },
            sep="/",
        ),
        references,
    )


def is_weights(path: str | Path) -> bool:
    """Whether `path` has the name of a weights file, not of a workdir."""
    return Path(path).suffix == ".safetensors"


def _opened(path: str | Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise DataError(
            f"{path} is no file: give one that inception-jax convert or export has written"
        ) from None
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is no whole file of weights ({error}): convert or copy it again"
        ) from error


def _card(file: Any, path: str | Path) -> Card:
    text = (file.metadata() or {}).get("card")
    if text is None:
        raise DataError(
            f"{path} has no card: it is another project's; convert it with inception-jax convert "
            "FILE --from ... --model ..."
        )
    found = parse_card(text, str(path))
    if found.format_version > 1 and (file.metadata() or {}).get(CARD_DIGEST) != _digest(text):
        raise DataError(
            f"{path} is damaged: its card is not that which was written; copy or convert it again"
        )
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
