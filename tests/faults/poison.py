"""Makes one image of step 46 of `benchmarks.runs.RECIPE` NaN."""

import jax.numpy as jnp

from inception_jax.experiment import Run

POISONED = 45 * 4 + 1
"""A position in the stream."""
clean = Run.prepare_training


def poisoned(run, batch, keys):
    images, targets = clean(run, batch, keys)
    return jnp.where((batch.position == POISONED)[:, None, None, None], jnp.nan, images), targets
