"""Our networks against what those of other projects made of the same images with the same weights,
as it was recorded in float64.
"""

from typing import Any

import jax.numpy as jnp
import pytest

from inception_jax.nn.create import create
from inception_jax.weights.convert.conversion import list_shapes, to_ours
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.reference.activations import compute_activations
from inception_jax.weights.reference.samples import compute_errors, make_test_images
from tests.weights.recordings import samples
from tests.weights.references import MODELS, classes, heads, sizes, weights

RECORDED = [(source, model) for source, models in MODELS.items() for model in models]
ONE_OF_EACH = {
    "torchvision": "googlenet", "timm": "preact_resnet18", "keras": "inception_v3",
    "tf_slim": "bn_inception", "cadene": "bn_inception", "fid": "inception_v3",
    "facenet": "inception_resnet_v1",
}  # fmt: skip
"""Source -> the network that the default tier converts: between them concatenations, residuals,
pre-activation, separable kernels.
"""


def drawn(source: str, model: str):
    """The arrays of a peer by our table of its names, which `test_names` holds against theirs."""
    origin: SourceSpec = SOURCES[source][model]
    network = create(
        origin.model,
        variant=origin.variant,
        num_classes=classes(source, model),
        aux=heads(source, model),
    )
    return weights(
        source, {array.theirs: array.layout.shape for array in origin.arrays(list_shapes(network))}
    )


def worst(source: str, model: str, dtype: Any, count: int = 2) -> dict[int, float]:
    """Size -> the largest error of any end point, at the first `count` sizes."""
    converted, found = to_ours(SOURCES[source][model], drawn(source, model)), {}
    for size in sizes(source, model)[:count]:
        wanted = samples(source, model, size)
        assert len(wanted) > 8
        points = [name for name in wanted if not name.startswith(("logits", "aux "))]
        found[size] = max(
            compute_errors(
                compute_activations(
                    converted.network, converted.variables, make_test_images(size), points, dtype
                ),
                wanted,
            ).values()
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("source", "model"), ONE_OF_EACH.items())
def test_every_end_point_of_one_network_of_each_source_matches_its_recording(source, model):
    found = worst(source, model, jnp.float32, count=1)
    assert max(found.values()) <= 2e-5, found


def test_every_source_has_a_network_in_the_default_tier():
    assert ONE_OF_EACH.keys() == MODELS.keys()


@pytest.mark.nightly
@pytest.mark.parametrize(("source", "model"), RECORDED)
def test_every_end_point_matches_its_recording_within_2e_5_at_two_sizes(source, model):
    found = worst(source, model, jnp.float32)
    assert max(found.values()) <= 2e-5, found


@pytest.mark.parity
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", MODELS["tf_slim"])
def test_tf_slim_networks_match_their_recordings_in_float64_within_1e_9(model):
    """Proves the graph; the graphs of other projects are compared in test_parity."""
    found = worst("tf_slim", model, jnp.float64)
    assert max(found.values()) <= 1e-9, found
