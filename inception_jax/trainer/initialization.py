"""Beginning from what another run has learned."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.checkpointing.packing import named_arrays
from inception_jax.config import ConfigError
from inception_jax.training.state import State


class LoadReport(NamedTuple):
    """Which arrays were taken over, which are new, and which of the other run's have no use here; by dotted name."""

    loaded: list[str]
    new: list[str]
    unused: list[str]

    def __str__(self) -> str:
        new = (
            f", new are {', '.join(self.new[:6])}{' ...' if len(self.new) > 6 else ''}"
            if self.new
            else ""
        )
        unused = (
            f", not used {', '.join(self.unused[:6])}{' ...' if len(self.unused) > 6 else ''}"
            if self.unused
            else ""
        )
        return f"{len(self.loaded)} arrays taken over{new}{unused}"


def load_matching_arrays(state: State, variables: Mapping[str, Any]) -> tuple[State, LoadReport]:
    """`state` with the parameters and statistics of `variables` wherever name and shape are the same.

    Raises:
      ConfigError: nothing is the same.
    """
    borrowed = find_matching_arrays(state, variables)
    loaded, arrays = {*borrowed.loaded}, flatten_dict(dict(variables), sep=".")

    def taken(tree: Any) -> Any:
        own = flatten_dict(
            tree, keep_empty_nodes=True, sep="."
        )  # copied: parameters and averages are given up to the step, each its own
        copied = {
            name: jax.device_put(jnp.array(arrays[name], own[name].dtype), own[name].sharding)
            for name in own
            if name in loaded
        }
        return unflatten_dict(own | copied, sep=".")

    begun = state.replace(
        **taken({"params": state.params, "batch_stats": state.batch_stats}),
        average=taken(state.average),
    )
    return begun, borrowed


def find_matching_arrays(
    state: State, variables: Mapping[str, Any], names: tuple[str, str] = ("this network", "")
) -> LoadReport:
    """Returns which of `variables` a state, or an abstract one, can take over.

    Args:
      names: of the two networks, for the message.

    Raises:
      ConfigError: none.
    """
    ours = {"params": state.params, "batch_stats": state.batch_stats}
    here, there = (
        {name: leaf.shape for name, leaf in named_arrays(tree)} for tree in (ours, dict(variables))
    )
    loaded = [name for name, shape in here.items() if there.get(name) == shape]
    if not any(name.startswith("params.") for name in loaded):
        raise ConfigError(
            f"init_from: not one of {len(there)} arrays{names[1] and ' of ' + names[1]} has a name and a shape of {names[0]}: "
            "is it another model? Give weights of the same one, or change --model.name and --model.variant"
        )
    return LoadReport(loaded, sorted(here.keys() - set(loaded)), sorted(there.keys() - set(loaded)))
