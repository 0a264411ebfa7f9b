"""Cheaper forms of a network for evaluation: norms folded into convolutions, kernels merged."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.nn.network import Network
from inception_jax.spec.rewrite import rewrite
from inception_jax.spec.rewritten import SiblingConcat
from inception_jax.spec.vocabulary import (
    Concat,
    Conv,
    Linear,
    Residual,
    Steps,
    name_words,
    rewrite_words,
)


def fold_norms(network: Network, variables: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Returns `network` and `variables` with norms folded into the kernel and bias before them.

    Norms without a convolution or linear layer before them (pre-activation, on sums) and those with
    statistics for each position stay.
    """
    if network.per_activation_in:
        return network, jax.tree.map(np.asarray, dict(variables))
    table = network.architecture
    unit = table.unit

    def change(word: Any) -> Any:
        if isinstance(word, Conv) and unit.get_norm_and_bias(word)[0]:
            return replace(word, norm=False, bias=True)
        return (
            replace(word, norm=False, bias=True) if isinstance(word, Linear) and word.norm else word
        )

    leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}
    for path in [path for path in leaves if path.endswith("/norm/mean")]:
        place = path.removeprefix("batch_stats/").removesuffix("/norm/mean")
        kernel = f"params/{place}/kernel"
        if kernel not in leaves:
            continue
        mean, variance = (
            leaves.pop(f"batch_stats/{place}/norm/{name}").astype(np.float64)
            for name in ("mean", "var")
        )
        beta = leaves.pop(f"params/{place}/norm/bias")
        gamma = leaves.pop(f"params/{place}/norm/scale", np.ones_like(beta))
        factor = gamma / np.sqrt(variance + network.norm.keywords.get("epsilon", unit.norm_epsilon))
        bias = leaves.get(f"params/{place}/bias", np.zeros_like(beta))
        leaves[f"params/{place}/bias"] = ((bias - mean) * factor + beta).astype(beta.dtype)
        leaves[kernel] = (leaves[kernel] * factor).astype(leaves[kernel].dtype)
    return network.clone(architecture=replace(table, layers=rewrite_words(table.layers, change))), {
        "params": {},
        "batch_stats": {},
    } | unflatten_dict(leaves, sep="/")


def merge_sibling_kernels(
    network: Network, variables: Mapping[str, Any]
) -> tuple[Network, dict[str, Any]]:
    """Returns `network` and `variables` with one kernel array for each group of siblings.

    The rewrite `merge_sibling_convs` concatenates them in every call. Projections that can precede
    their average pool are siblings too. A network without siblings stays the same.
    """
    table = rewrite(network.architecture, ("project_before_pool", "merge_sibling_convs"))
    leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}
    for name, steps in table.layers:
        for place, word in _siblings(steps, name):
            firsts = [
                f"params/{place}/branch_{i}/{next(name_words(word.branches[i]))[0]}/kernel"
                for i in word.siblings
            ]
            leaves[f"params/{place}/merged"] = np.concatenate(
                [leaves.pop(path) for path in firsts], axis=-1
            )

    def mark_merged(word: Any) -> Any:
        return replace(word, merged=True) if isinstance(word, SiblingConcat) else word

    merged_table = replace(table, layers=rewrite_words(table.layers, mark_merged))
    merged = {"params": {}, "batch_stats": {}} | unflatten_dict(leaves, sep="/")
    return network.clone(architecture=merged_table), merged


def _siblings(steps: Steps, place: str) -> Iterator[tuple[str, SiblingConcat]]:
    """Yields each concat with merged siblings, with its path."""
    for _, word in name_words(steps):
        match word:
            case Concat(branches=branches):
                if isinstance(word, SiblingConcat):
                    yield place, word
                for i, branch in enumerate(branches):
                    yield from _siblings(branch, f"{place}/branch_{i}")
            case Residual(branch=branch, shortcut=shortcut):
                yield from _siblings(branch, place)
                if shortcut is not None and shortcut != "pad":
                    yield from _siblings(shortcut, f"{place}/shortcut")
