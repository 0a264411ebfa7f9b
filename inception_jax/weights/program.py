"""A trained network as one function of images, its parameters inside: what JAX's own exporters take."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.experiment import Run
from inception_jax.weights.folding import folded, merged

Program = Callable[[Any], jax.Array]


def program(run: Run, variables: Mapping[str, Any], *, pixels: bool, fold: bool = True) -> Program:
    """float32 [B, size, size, C], scaled, to logits [B, K]; with `pixels`, uint8 [B, size, size, 3] to class probabilities."""
    network = run.network.clone(rewrites=())  # other machines run it than this one
    network, own = merged(*folded(network, variables)) if fold else (network, jax.tree.map(np.asarray, dict(variables)))

    def compute(images: jax.Array) -> jax.Array:
        outputs: Any = network.apply(own, run.prepare_evaluation(images) if pixels else images)
        return jax.nn.softmax(outputs.logits) if pixels else outputs.logits

    return compute


def fed(run: Run, *, pixels: bool) -> tuple[tuple[int, int, int], Any]:
    """(height, width, channels) of an image, and the type of its values."""
    size = run.config.data.image_size
    return (size, size, 3 if pixels else run.network.architecture.channels), jnp.uint8 if pixels else jnp.float32


def examples(run: Run, batch: int, *, pixels: bool) -> np.ndarray:
    """Random images as the program takes them."""
    shape, dtype = fed(run, pixels=pixels)
    rng = np.random.default_rng(batch)
    if pixels:
        return rng.integers(0, 256, (batch, *shape), np.uint8)
    return rng.uniform(-1, 1, (batch, *shape)).astype(dtype)
