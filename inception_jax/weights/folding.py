"""Batch normalisation folded into the convolutions before it: the same function in evaluation, with fewer steps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from inception_jax.nn.network import Network
from inception_jax.spec.vocabulary import Conv, Linear, rewritten
from inception_jax.weights.tree import flat, nested


def folded(network: Network, variables: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """`network` and `variables` without the norms that follow a convolution or a linear layer, whose kernel and bias take them over.

    Norms that stand by themselves (pre-activation, on sums) and those with statistics for each position stay.
    """
    if network.per_activation_in:
        return network, jax.tree.map(np.asarray, dict(variables))
    table = network.architecture
    unit = table.unit

    def change(word: Any) -> Any:
        if isinstance(word, Conv) and unit.of(word)[0]:
            return replace(word, norm=False, bias=True)
        return replace(word, norm=False, bias=True) if isinstance(word, Linear) and word.norm else word

    leaves = {path: np.asarray(leaf) for path, leaf in flat(variables).items()}
    for path in [path for path in leaves if path.endswith("/norm/mean")]:
        place = path.removeprefix("batch_stats/").removesuffix("/norm/mean")
        kernel = f"params/{place}/kernel"
        if kernel not in leaves:
            continue
        mean, variance = (leaves.pop(f"batch_stats/{place}/norm/{name}").astype(np.float64) for name in ("mean", "var"))
        beta = leaves.pop(f"params/{place}/norm/bias")
        gamma = leaves.pop(f"params/{place}/norm/scale", np.ones_like(beta))
        factor = gamma / np.sqrt(variance + network.norm.keywords.get("epsilon", unit.norm_epsilon))
        bias = leaves.get(f"params/{place}/bias", np.zeros_like(beta))
        leaves[f"params/{place}/bias"] = ((bias - mean) * factor + beta).astype(beta.dtype)
        leaves[kernel] = (leaves[kernel] * factor).astype(leaves[kernel].dtype)
    return network.clone(architecture=replace(table, layers=rewritten(table.layers, change))), nested(leaves)
