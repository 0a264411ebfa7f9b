"""The difference between a converted network and its project's own."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.nn.network import Network
from inception_jax.weights.cards import Card
from inception_jax.weights.convert.importer import ImportedWeights
from inception_jax.weights.reference.activations import compute_activations
from inception_jax.weights.reference.reference_models import list_end_points, make_reference
from inception_jax.weights.reference.samples import compute_errors, make_test_images, sample_values

BOUND = 1e-4
"""Largest max|a - b| / max|b| of weights that are trusted. Correct conversions are at 1e-6."""

Parity = dict[str, Any]
"""For a card: `against` what, at which `size`, and the `compute_errors` by end point."""


def measure_parity(
    found: ImportedWeights, *, check: bool = True
) -> tuple[dict[str, np.ndarray], Parity]:
    """Returns samples of the reference's activations, and the errors of the converted network.

    Where the reference cannot run, or with `check=False`, the samples are the converted network's
    own: they detect later changes, but no error of the conversion. `against` says which.

    Raises:
      DataError: An error exceeds `BOUND`.
    """
    card, size, there = found.card, found.card.data.image_size, found.source_spec
    batch = make_test_images(size)
    ours = compute_activations(
        found.network, found.variables, batch, list_end_points(there), jnp.float32
    )
    try:
        if not check:
            raise ConfigError("it was not asked for")
        own = make_reference(
            found.project,
            card.model.name,
            classes=card.num_classes,
            aux=card.model.aux,
            image_size=size,
        )
        theirs = own.run(found.arrays, batch, "float64")
        against = (
            f"{found.project} itself "
            f"({', '.join(f'{name} {version}' for name, version in own.versions.items())})"
        )
    except ConfigError as error:
        theirs, against = ours, f"itself alone, as it was converted ({error})"
    references = {name: sample_values(value) for name, value in theirs.items()}
    parity = {"against": against, "size": size, "errors": compute_errors(ours, references)}
    require_parity(parity, "nothing was written")
    return references, parity


def remeasure_parity(
    card: Card, network: Network, variables: Mapping[str, Any], references: Mapping[str, np.ndarray]
) -> Parity:
    """Returns the errors of a weights file on this machine.

    Raises:
      DataError: The file has no samples.
    """
    if not references:
        raise DataError(
            "these weights keep no activations to compare with: convert or export them again"
        )
    points = [name for name in references if not name.startswith(("logits", "aux "))]
    given = make_test_images(card.parity["size"], network.architecture.channels)
    found = compute_activations(network, variables, given, points, jnp.float32)
    return {**card.parity, "errors": compute_errors(found, references)}


def require_parity(parity: Parity, consequence: str) -> None:
    """Raises an error for weights that differ from their samples.

    Raises:
      DataError: An error exceeds `BOUND`, or is NaN.
    """
    for name, error in parity["errors"].items():
        if not error <= BOUND:
            raise DataError(
                f"{name} differs from {parity['against']} by {error:.1e} of the largest value, "
                "more "
                f"than {BOUND}: {consequence}"
            )
