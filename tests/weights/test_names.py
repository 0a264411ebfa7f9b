"""The names of other projects: a bijection, and exactly those that their own networks have, as
they were recorded.
"""

import pytest

from inception_jax.nn.create import create
from inception_jax.weights.convert.conversion import list_shapes
from inception_jax.weights.convert.names import Names
from inception_jax.weights.convert.sources import SOURCES
from tests.tiers import sweep
from tests.weights.record import digest
from tests.weights.recordings import facts
from tests.weights.references import MODELS

ALL = [(source, model) for source, models in SOURCES.items() for model in models]
ONE_OF_EACH = [(source, next(iter(models))) for source, models in SOURCES.items()]


def theirs(source, model, classes, aux):
    origin = SOURCES[source][model]
    network = create(origin.model, variant=origin.variant, num_classes=classes, aux=aux)
    return list(origin.arrays(list_shapes(network)))


@pytest.mark.parametrize(("source", "model"), sweep(ALL, ONE_OF_EACH))
def test_array_names_of_other_projects_are_unique_and_match_the_recorded_ones(source, model):
    """Compares with recorded names; other networks of the same units have unique ones."""
    recorded = model in MODELS.get(source, ())
    classes, heads = (
        (facts(source)[model][key] for key in ("classes", "aux")) if recorded else (1000, True)
    )
    arrays = theirs(source, model, classes, heads)
    assert (
        len({array.theirs for array in arrays})
        == len({array.ours for array in arrays})
        == len(arrays)
    )
    if recorded:
        assert (
            digest({array.theirs: array.layout.shape for array in arrays})
            == facts(source)[model]["arrays"]
        )


@pytest.mark.slow
def test_irregular_array_names_are_those_of_the_published_checkpoints():
    """From the checkpoints' own listings: the irregular ones."""
    wanted = {
        ("tf_slim", "inception_v3"): [
            "InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5/weights",
            "InceptionV3/AuxLogits/Conv2d_2b_1x1/biases",
        ],
        ("torchvision", "googlenet"): ["inception4e.branch4.1.bn.running_var", "aux2.fc1.weight"],
        ("keras", "inception_v3"): [
            "conv2d/kernel",
            "conv2d_93/kernel",
            "batch_normalization_93/moving_variance",
        ],
        ("caffe", "resnet101"): [
            "res4b22_branch2c/weights",
            "bn4b22_branch2c/variance",
            "scale4b22_branch2c/gamma",
            "bn_conv1/mean",
        ],
        ("caffe", "googlenet"): ["inception_5b/pool_proj/biases", "loss1/fc/weights"],
    }
    for (source, model), names in wanted.items():
        assert set(names) <= {array.theirs for array in theirs(source, model, 1000, True)}


def test_the_error_for_a_naming_rule_that_does_not_fit_names_the_module():
    origin = SOURCES["torchvision"]["googlenet"]
    short = Names(
        tuple(
            (place, there, layers.replace(" branch4.1", ""))
            for place, there, layers in origin.names.rules
        )
    )
    with pytest.raises(
        ValueError, match=r"Mixed_3b has 6 layers, and its names are branch1 .* branch3\.1"
    ):
        list(short.layers(origin.architecture))
    with pytest.raises(ValueError, match="no rule names Conv2d_1a_7x7"):
        list(Names(()).layers(origin.architecture))
