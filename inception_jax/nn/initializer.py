"""From the law that a table names to a Flax initialiser."""

import flax.linen as nn
import jax

from inception_jax.spec.vocabulary import Init


def initializer(init: Init) -> jax.nn.initializers.Initializer:
    """The law that `init` names, as a Flax initialiser."""
    if init.fan:
        return nn.initializers.variance_scaling(init.scale, init.fan, init.law)
    return {"truncated_normal": nn.initializers.truncated_normal, "normal": nn.initializers.normal}[init.law](init.scale)
