"""Variables as arrays by their paths (`params/Logits/linear/kernel`), and back."""

from collections.abc import Mapping
from typing import Any

import jax


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> array."""
    found = jax.tree_util.tree_flatten_with_path(dict(variables))[0]
    return {"/".join(key.key for key in path): leaf for path, leaf in found}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The tree that `flat` has made paths of; `params` and `batch_stats` are there even where they are empty."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for path, leaf in leaves.items():
        *places, name = path.split("/")
        branch = tree
        for place in places:
            branch = branch.setdefault(place, {})
        branch[name] = leaf
    return tree
