"""Our files of weights: safetensors, whose arrays are called by their paths, with the card as metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from inception_jax.data.source import DataError
from inception_jax.files import put
from inception_jax.weights.cards import Card
from inception_jax.weights.cards import read as read_card
from inception_jax.weights.tree import flat, nested

REFERENCE = "reference/"
"""Before the names of the samples that `verify` compares with."""


class Opened(NamedTuple):
    """A file: its card, its variables, and the samples of activations that it keeps, by end point."""

    card: Card
    variables: dict[str, Any]
    references: dict[str, np.ndarray]


def save(path: str | Path, card: Card, variables: Mapping[str, Any], references: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes a file of weights, whole or not at all.

    Raises:
      StorageError: it cannot be written.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in flat(variables).items()}
    arrays |= {f"{REFERENCE}{name}": np.ascontiguousarray(value) for name, value in (references or {}).items()}
    put(epath.Path(path), to_bytes(arrays, {"card": card.to_json(), "format": "inception_jax"}))


def card(path: str | Path) -> Card:
    """What is known of a file, without its arrays.

    Raises:
      DataError: it is none of ours, or damaged.
    """
    with _opened(path) as file:
        return _card(file, path)


def load(path: str | Path) -> dict[str, Any]:
    """The variables of a file of weights: `{"params": ..., "batch_stats": ...}`, as NumPy arrays.

    Raises:
      DataError: it is none of ours, or damaged.
    """
    return read(path).variables


def read(path: str | Path) -> Opened:
    """All of a file.

    Raises:
      DataError: it is none of ours, or damaged.
    """
    with _opened(path) as file:
        found = _card(file, path)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    references = {name.removeprefix(REFERENCE): value for name, value in arrays.items() if name.startswith(REFERENCE)}
    return Opened(found, nested({name: value for name, value in arrays.items() if not name.startswith(REFERENCE)}), references)


def is_weights(path: str | Path) -> bool:
    """Whether `path` looks like a file of weights, and not like a workdir."""
    return Path(path).suffix == ".safetensors"


def _opened(path: str | Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise DataError(f"{path} is no file: give one that inception-jax convert or export has written") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no whole file of weights ({error}): convert or copy it again") from error


def _card(file: Any, path: str | Path) -> Card:
    text = (file.metadata() or {}).get("card")
    if text is None:
        raise DataError(f"{path} has no card: it is another project's; convert it with inception-jax convert FILE --from ... --model ...")
    return read_card(text, str(path))
