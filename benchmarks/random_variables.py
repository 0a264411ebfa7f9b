"""Random variables of a network from NumPy, since compiling an initialisation takes seconds."""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def variables(network, *, image_size=None, seed=0):
    """Returns kernels of a sensible size, gammas and variances near 1, the rest near 0."""
    rng = np.random.default_rng(seed)
    size = image_size or network.architecture.input_size
    shapes = jax.eval_shape(
        network.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, size, size, network.architecture.channels), jnp.float32),
    )

    def value(path, leaf):
        drawn = rng.normal(size=leaf.shape)
        if path[-1].key.endswith("kernel"):
            drawn *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path[-1].key in ("scale", "var"):
            drawn = 1 + 0.1 * np.clip(drawn, -3, 3)
        else:
            drawn *= 0.1
        return jnp.asarray(drawn, leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, shapes)


def some_gammas_negative(tree):
    """Returns the variables with every third gamma negative, as in trained networks."""

    def turned(path, leaf):
        return (
            leaf * jnp.where(jnp.arange(leaf.size) % 3, 1, -1).reshape(leaf.shape)
            if path[-1].key == "scale"
            else leaf
        )

    return jax.tree_util.tree_map_with_path(turned, tree)


def apart(found, wanted):
    """Returns the largest difference of two trees' arrays, relative to the largest value.

    For an array of rounding errors alone (a bias before a norm) it is absolute.
    """
    chex.assert_trees_all_equal_structs(found, wanted)
    return float(
        np.max(
            [
                abs(a - b).max() / max(abs(b).max(), 1e-4)
                for a, b in zip(*map(_arrays, (found, wanted)), strict=True)
            ],
            initial=0,
        )
    )


def _arrays(tree):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree) if np.size(leaf)]


def abstract(tree):
    """Returns shapes, dtypes and shardings of arrays, to restore a checkpoint into."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
