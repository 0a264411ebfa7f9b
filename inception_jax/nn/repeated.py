"""Equal blocks in a row as one loop, each with variables of its own: stacked while it runs, by name everywhere else."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Run = tuple[str, ...]
"""The names of equal blocks, in order."""


def repeated(
    network: nn.Module, block: nn.Module, names: Run, x: jax.Array, train: bool, mask: jax.Array | None, recompute: bool
) -> jax.Array:
    """`block`, a module without a parent, of `x` with the variables that `network` has under each of `names`, one after the other.

    Those are stacked here, unless they are already (`pack`); statistics go back to where they came from.

    The backward pass gets what kernels gave, and computes again what stands between: a loop keeps all that it is asked for, in float32
    too, where XLA would have chosen (Inception-ResNet-v2, 64 images on a TPU: 19.5 GB of temporaries, and so 9.7).

    Args:
      recompute: what kernels gave, too.
    """
    held = network.variables
    stacked = {
        collection: tree[_key(names)] if _key(names) in tree else _stacked([tree[name] for name in names])
        for collection, tree in held.items() if {names[0], _key(names)} & {*tree}
    }  # fmt: skip
    mutable = [collection for collection in stacked if collection != "params" and network.is_mutable_collection(collection)]

    def one(x, variables):
        return block.apply(variables, x, train, mask, mutable=mutable)

    policy = None if recompute else _products
    x, updated = jax.lax.scan(jax.checkpoint(one, prevent_cse=False, policy=policy), x, stacked, length=len(names))
    for collection, tree in updated.items():
        parts = {_key(names): tree} if _key(names) in held[collection] else dict(zip(names, _parts(tree, len(names)), strict=True))
        for name, part in parts.items():
            network.put_variable(collection, name, part)
    return x


def pack(tree: Any, runs: Sequence[Run]) -> Any:
    """Any tree of variables, of their gradients or averages, with those of each run stacked: [blocks, ...]."""

    def packed(level: dict[str, Any]) -> dict[str, Any]:
        inside = {name for run in runs for name in run}
        own = {name: part for name, part in level.items() if name not in inside}
        return own | {_key(run): _stacked([level[name] for name in run]) for run in runs}

    return _where(tree, [run[0] for run in runs], packed)


def unpack(tree: Any, runs: Sequence[Run]) -> Any:
    """What `pack` was given."""

    def unpacked(level: dict[str, Any]) -> dict[str, Any]:
        own = {name: part for name, part in level.items() if name not in map(_key, runs)}
        return own | {name: part for run in runs for name, part in zip(run, _parts(level[_key(run)], len(run)), strict=True)}

    return _where(tree, [_key(run) for run in runs], unpacked)


def _key(names: Run) -> str:
    return f"{names[0]}..{names[-1]}"


def _where(tree: Any, names: Sequence[str], change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """`tree` with every level changed that has all these names."""
    has = lambda level: isinstance(level, dict) and {*names} <= {*level}  # noqa: E731
    return jax.tree.map(lambda level: change(level) if has(level) else level, tree, is_leaf=has)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _parts(tree: Any, count: int) -> list[Any]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]


def _products(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive in (jax.lax.conv_general_dilated_p, jax.lax.dot_general_p)
