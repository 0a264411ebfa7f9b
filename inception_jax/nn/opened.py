"""The module that an open word of a table names."""

import importlib

import flax.linen as nn


def load(path: str) -> type[nn.Module]:
    """The class that an open word names as `package.module:Class`; ValueError where it cannot be imported."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the open word names {path!r}, which cannot be imported ({error}): write 'package.module:Class'") from error
