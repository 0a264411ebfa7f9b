"""Activations of a network at its end points, for comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.nn.network import Network
from inception_jax.weights.reference.samples import NamedTensors


def compute_activations(
    network: Network,
    variables: Mapping[str, Any],
    batch: np.ndarray,
    end_points: Sequence[str],
    dtype: Any,
) -> NamedTensors:
    """Returns `logits`, `aux 0`, ... and `end_points` of `batch` in evaluation, in `dtype`.

    Auxiliary heads, which evaluation elsewhere leaves out, run here too.
    """
    network = network.clone(dtype=dtype)
    table = network.architecture
    heads = table.aux if network.aux else ()
    points = list(dict.fromkeys([*end_points, *(head.at for head in heads)]))

    @partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0}
    )  # it runs once: half the time to compile, on a CPU
    def run(variables: Any, images: jax.Array) -> dict[str, Any]:
        outputs: Any = network.apply(variables, images, end_points=points)
        found = {"logits": outputs.logits, **outputs.end_points}
        for i, head in enumerate(heads):
            alone = replace(
                table,
                layers=((head.name, head.steps),),
                aux=(),
                channels=outputs.end_points[head.at].shape[-1],
            )
            head_network = network.clone(architecture=alone)
            aux: Any = head_network.apply(variables, outputs.end_points[head.at])
            found[f"aux {i}"] = aux.logits
        return found

    own = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), dict(variables))
    return {name: np.asarray(value) for name, value in run(own, jnp.asarray(batch, dtype)).items()}
