"""Trained networks: conversion from other projects, weights files, and exports.

`weights.card(path)` returns the card of a weights file or of a release. `weights.from_torchvision(
file, "inception_v3")`, and `from_` any other of `SOURCES`, returns `ImportedWeights(card,
variables, network, arrays)`. Nothing that trains imports this package.
"""

import importlib
from functools import partial
from typing import Any

_HOMES = {
    "Card": "inception_jax.weights.cards",
    "Predictor": "inception_jax.weights.predictor",
    "SOURCES": "inception_jax.weights.convert.sources",
    "card": "inception_jax.weights.pretrained",
    "from_pretrained": "inception_jax.weights.pretrained",
    "load": "inception_jax.weights.pretrained",
    "save": "inception_jax.weights.files",
    "to_theirs": "inception_jax.weights.convert.conversion",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name.startswith("from_"):
        from inception_jax.weights.convert.importer import import_weights
        from inception_jax.weights.convert.sources import SOURCES

        if name.removeprefix("from_") in SOURCES:
            return partial(import_weights, name.removeprefix("from_"))
    raise AttributeError(
        f"module 'inception_jax.weights' has no attribute {name!r}; it has {', '.join(_HOMES)} and "
        "from_<project>"
    )


def __dir__() -> list[str]:
    from inception_jax.weights.convert.sources import SOURCES

    return [*_HOMES, *(f"from_{source}" for source in SOURCES)]
