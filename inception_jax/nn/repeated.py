"""Equal blocks in a row as one loop, each with variables of its own."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def repeated(network: nn.Module, block: nn.Module, names: Sequence[str], x: jax.Array, train: bool) -> jax.Array:
    """`block`, a module without a parent, of `x` with the variables that `network` has under each of `names`, one after the other.

    They are stacked inside the step, 4 bytes a parameter, so that everything outside finds them by name: the optimizer, checkpoints, other
    programs. Statistics go back to where they came from.
    """
    held = {collection: [tree[name] for name in names] for collection, tree in network.variables.items() if names[0] in tree}
    mutable = [collection for collection in held if collection != "params" and network.is_mutable_collection(collection)]

    def one(x, variables):
        return block.apply(variables, x, train, mutable=mutable)

    stacked = {collection: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for collection, trees in held.items()}
    x, updated = jax.lax.scan(one, x, stacked)
    for collection, tree in updated.items():
        for i, name in enumerate(names):
            network.put_variable(collection, name, jax.tree.map(lambda leaf, i=i: leaf[i], tree))
    return x
