"""A trained network, wherever it is kept: in a run's workdir, or in a file of weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from inception_jax.data.images import FileSource
from inception_jax.data.source import DataError
from inception_jax.experiment import Run
from inception_jax.mesh import everything
from inception_jax.weights import file
from inception_jax.weights.cards import FED, Card
from inception_jax.weights.convert import shapes
from inception_jax.weights.tree import flat
from inception_jax.workdir import opened


class Trained(NamedTuple):
    """A run in this room, its variables on the devices, its card, and what to call it."""

    run: Run
    variables: Mapping[str, Any]
    card: Card
    name: str


def trained(path: str) -> Trained:
    """The newest state of the workdir `path` (`path@STEP` for another), or the weights that a .safetensors file holds.

    Raises:
      DataError: a file that is damaged, or whose arrays are not those of the network on its card.
      ConfigError: no such run, or a network that is not known here.
      CheckpointError: a checkpoint that is damaged.
    """
    if file.is_weights(path):
        card, variables, _ = file.read(path)
        run = Run(card.experiment, everything(), given_source=FileSource((), card.names))
        own, expected = {name: leaf.shape for name, leaf in flat(variables).items()}, shapes(run.network)
        if own != expected:
            odd = sorted(name for name in own.keys() | expected.keys() if own.get(name) != expected.get(name))
            raise DataError(
                f"{path}: {len(odd)} arrays are not as {card.model.name} has them here, {odd[0]} among them ({own.get(odd[0])}, wanted is "
                f"{expected.get(odd[0])}): convert the weights again"
            )
        return Trained(run, jax.device_put(variables, run.placement.replicated), card, path)
    _, run, state = opened(path)
    name = f"{path}, step {int(state.step)}"
    data = {name: getattr(run.config.data, name) for name in FED}
    card = Card(run.config.model, type(run.config.data)(**data), len(run.class_names), run.class_names, source=f"inception_jax: {name}")
    return Trained(run, state.variables, card, name)
