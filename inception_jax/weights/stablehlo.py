"""A trained network as one file of `jax.export`: StableHLO and its parameters, which JAX alone reads and runs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from inception_jax.experiment import Run
from inception_jax.training.state import State
from inception_jax.training.steps import predict_step

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(run: Run, state: State) -> bytes:
    """uint8 [batch, size, size, 3] -> class probabilities [batch, K], for any batch, on each of `PLATFORMS`; parameters inside."""
    variables = jax.tree.map(np.asarray, state.variables)

    def network(images: jax.Array) -> jax.Array:
        return predict_step(variables, images, network=run.network, prepare=run.prepare_evaluation)

    size = run.config.data.image_size
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), size, size, 3), jnp.uint8)
    return bytes(export.export(jax.jit(network), platforms=PLATFORMS)(images).serialize())


def worst_difference(file: bytes, run: Run, state: State) -> float:
    """The largest difference of a probability between `file`, read back, and the run itself, on random images of batch 1 and 7."""
    call, size = export.deserialize(bytearray(file)).call, run.config.data.image_size
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 7):
        images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
        worst = max(worst, float(np.abs(np.asarray(call(images)) - np.asarray(run.predict_step(state.variables, images))).max()))
    return worst
