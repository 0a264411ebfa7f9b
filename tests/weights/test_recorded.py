"""Our networks against what those of other projects made of the same images with the same weights, as it was recorded in float64."""

from typing import Any

import jax.numpy as jnp
import pytest

from inception_jax.nn.create import create
from inception_jax.weights.activations import activations
from inception_jax.weights.convert import ours, shapes
from inception_jax.weights.origin import Origin
from inception_jax.weights.samples import errors, images
from inception_jax.weights.sources import SOURCES
from tests.weights.peers import MODELS, classes, heads, sizes, weights
from tests.weights.recordings import samples

pytestmark = pytest.mark.slow
RECORDED = [(source, model) for source, models in MODELS.items() for model in models]


def drawn(source: str, model: str):
    """The arrays of a peer by our table of its names, which `test_names` holds against theirs."""
    origin: Origin = SOURCES[source][model]
    network = create(origin.model, variant=origin.variant, num_classes=classes(source, model), aux=heads(source, model))
    return weights(source, {array.theirs: array.layout.shape for array in origin.arrays(shapes(network))})


def worst(source: str, model: str, dtype: Any) -> dict[int, float]:
    """Size -> the largest error of any end point."""
    converted, found = ours(SOURCES[source][model], drawn(source, model)), {}
    for size in sizes(source, model):
        wanted = samples(source, model, size)
        assert len(wanted) > 8
        points = [name for name in wanted if not name.startswith(("logits", "aux "))]
        found[size] = max(errors(activations(converted.network, converted.variables, images(size), points, dtype), wanted).values())
    return found


@pytest.mark.parametrize(("source", "model"), RECORDED)
def test_every_recorded_end_point_within_2e_5_at_two_sizes(source, model):
    found = worst(source, model, jnp.float32)
    assert max(found.values()) <= 2e-5, found


@pytest.mark.parity
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", MODELS["tf_slim"])
def test_tf_slim_in_float64(model):
    """That proves the graph. The other projects' is proved beside them (test_parity)."""
    found = worst("tf_slim", model, jnp.float64)
    assert max(found.values()) <= 1e-9, found
