"""The initialization of a run from the arrays of another one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.config import ConfigError
from inception_jax.training.state import State

MAX_LISTED_ARRAYS = 6


class LoadReport(NamedTuple):
    """The names of the arrays that a state takes over from other variables, and of the rest.

    Attributes:
      loaded: Arrays whose name and shape are equal in both.
      new: Arrays of the state that are initialized.
      unused: Arrays of the other variables that the state does not take over.
    """

    loaded: list[str]
    new: list[str]
    unused: list[str]

    def __str__(self) -> str:
        new = f", new are {_join_first(self.new)}" if self.new else ""
        unused = f", not used {_join_first(self.unused)}" if self.unused else ""
        return f"{len(self.loaded)} arrays taken over{new}{unused}"


def _join_first(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED_ARRAYS]) + (" ..." if len(names) > MAX_LISTED_ARRAYS else "")


def load_matching_arrays(state: State, variables: Mapping[str, Any]) -> tuple[State, LoadReport]:
    """Replaces the parameters and statistics of `state` that have the same name and shape.

    Args:
      variables: The `params` and `batch_stats` of another network.

    Returns:
      The new state, whose arrays are copies, and the report.

    Raises:
      ConfigError: No parameter matches.
    """
    report = find_matching_arrays(state, variables)
    loaded, arrays = {*report.loaded}, flatten_dict(dict(variables), sep=".")

    def replace_loaded(tree: Any) -> Any:
        own = flatten_dict(tree, keep_empty_nodes=True, sep=".")
        # Copies: the step donates parameters and averages, so no two may share a buffer.
        copied = {
            name: jax.device_put(jnp.array(arrays[name], own[name].dtype), own[name].sharding)
            for name in own
            if name in loaded
        }
        return unflatten_dict(own | copied, sep=".")

    variables_of_state = {"params": state.params, "batch_stats": state.batch_stats}
    average = replace_loaded(state.average)
    return state.replace(**replace_loaded(variables_of_state), average=average), report


def find_matching_arrays(
    state: State, variables: Mapping[str, Any], names: tuple[str, str] = ("this network", "")
) -> LoadReport:
    """Returns which arrays of `variables` a state can take over.

    Args:
      state: A state, or an abstract one.
      names: The names of the two networks, for the message.

    Raises:
      ConfigError: No parameter matches.
    """
    ours = {"params": state.params, "batch_stats": state.batch_stats}
    own_shapes, other_shapes = (
        {name: leaf.shape for name, leaf in flatten_with_names(tree)}
        for tree in (ours, dict(variables))
    )
    loaded = [name for name, shape in own_shapes.items() if other_shapes.get(name) == shape]
    if not any(name.startswith("params.") for name in loaded):
        other = f" of {names[1]}" if names[1] else ""
        raise ConfigError(
            f"init_from: not one of {len(other_shapes)} arrays{other} has a name and a shape of "
            f"{names[0]}: is it another model? Give weights of the same one, or change "
            "--model.name and --model.variant"
        )
    new, unused = own_shapes.keys() - set(loaded), other_shapes.keys() - set(loaded)
    return LoadReport(loaded, sorted(new), sorted(unused))
