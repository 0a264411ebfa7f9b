"""Initial kernels by variant: the distributions of the released code, sampled.

Deviations are within 2 % on kernels of more than 10,000 entries; a truncated normal is cut at twice
its deviation, which leaves 0.8796 of it; a uniform distribution on [-b, b] has the deviation b /
sqrt(3).
"""

from functools import cache
from math import prod, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models import get_architecture
from inception_jax.nn import conv as home
from inception_jax.nn.conv import NetworkPart, make_initializer
from inception_jax.nn.network import Network
from inception_jax.spec.vocabulary import flatten
from tests.tiers import sweep


@cache
def kernels(name, variant):
    """Returns path -> (init, shape) of every kernel, with auxiliary heads."""
    found, path = {}, []
    ask, answer = NetworkPart.make_kernel, make_initializer

    def kernel(self, shape, init, name="kernel"):
        path[:] = [
            "/".join(self.path) + ("/depthwise" if name == "depthwise_kernel" else ""),
            shape,
        ]
        return ask(self, shape, init, name)

    def drawn_from(init):
        found[path[0]] = (init, path[1])
        return answer(init)

    table = get_architecture(name, variant)
    image = jax.ShapeDtypeStruct(
        (1, table.input_size, table.input_size, table.channels), jnp.float32
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkPart, "make_kernel", kernel)
        patch.setattr(home, "make_initializer", drawn_from)
        jax.eval_shape(
            Network(table, num_classes=table.num_classes, aux=True).init, jax.random.key(0), image
        )
    return found


def fans(shape):
    return prod(shape[:-1]), prod(shape[:-2]) * shape[-1]


def truncated(deviation):
    return lambda shape: (0.8796 * deviation, 2 * deviation)


def normal(deviation):
    return lambda shape: (deviation, None)


def slim_scaling(shape):
    deviation = sqrt(1.3 * 2 / fans(shape)[0])
    return 0.8796 * deviation, 2 * deviation


def glorot(shape):
    bound = sqrt(6 / sum(fans(shape)))
    return bound / sqrt(3), bound


def caffe_xavier(shape):
    bound = sqrt(3 / fans(shape)[0])
    return bound / sqrt(3), bound


def torch_linear(shape):
    bound = 1 / sqrt(fans(shape)[0])
    return bound / sqrt(3), bound


def kaiming(fan):
    return lambda shape: (sqrt(2 / fans(shape)[fan]), None)


LAWS = [
    # slim, `variance_scaling_initializer`
    ("inception_v3", "tf_slim", "Mixed_6e/branch_1/conv_1x7", slim_scaling),
    ("inception_v3", "tf_slim", "Logits/linear", slim_scaling),
    ("inception_v4", "tf_slim", "Mixed_6b/branch_2/conv_7x1_2", slim_scaling),
    ("resnet50", "tf_slim", "block3_unit_2/conv_3x3", slim_scaling),
    ("preact_resnet50", "tf_slim", "block3_unit_2/conv_3x3", slim_scaling),
    # slim inception_v1.py
    ("googlenet", "tf_slim", "Conv2d_2c_3x3/conv_3x3", truncated(0.01)),
    ("googlenet", "tf_slim", "Mixed_5c/branch_3/conv_1x1", truncated(0.01)),
    ("googlenet", "tf_slim", "Logits/linear", slim_scaling),
    # slim inception_v2.py
    ("bn_inception", "tf_slim", "Conv2d_1a_7x7/conv_7x7/depthwise", truncated(1.0)),
    ("bn_inception", "tf_slim", "Conv2d_1a_7x7/conv_7x7", truncated(1.0)),
    ("bn_inception", "tf_slim", "Conv2d_2b_1x1/conv_1x1", truncated(0.1)),
    ("bn_inception", "tf_slim", "Mixed_4b/branch_1/conv_1x1", truncated(0.09)),
    ("bn_inception", "tf_slim", "Mixed_4b/branch_2/conv_1x1", truncated(0.09)),
    ("bn_inception", "tf_slim", "Mixed_4a/branch_0/conv_1x1", truncated(0.09)),
    ("bn_inception", "tf_slim", "Mixed_4b/branch_3/conv_1x1", truncated(0.1)),
    ("bn_inception", "tf_slim", "Mixed_4b/branch_0/conv_1x1", slim_scaling),
    ("bn_inception", "tf_slim", "Mixed_4b/branch_1/conv_3x3", slim_scaling),
    # slim inception_v3.py and v4, auxiliary heads and classifiers
    ("inception_v3", "tf_slim", "AuxLogits/conv_1x1", slim_scaling),
    ("inception_v3", "tf_slim", "AuxLogits/conv_5x5", truncated(0.01)),
    ("inception_v3", "tf_slim", "AuxLogits/linear", truncated(0.001)),
    ("inception_v4", "tf_slim", "AuxLogits/conv_5x5", slim_scaling),
    ("inception_v4", "tf_slim", "AuxLogits/linear", glorot),
    ("inception_v4", "tf_slim", "Logits/linear", glorot),
    # slim inception_resnet_v2.py: its scope sets no initialiser
    ("inception_resnet_v2", "tf_slim", "Conv2d_4a_3x3/conv_3x3", glorot),
    ("inception_resnet_v2", "tf_slim", "block17_3/up", glorot),
    ("inception_resnet_v2", "tf_slim", "AuxLogits/conv_5x5", glorot),
    ("inception_resnet_v2", "tf_slim", "Logits/linear", glorot),
    # tensorflow/models inception, 2015
    ("inception_v3", "tf_2015", "Mixed_6e/branch_1/conv_1x7", truncated(0.1)),
    ("inception_v3", "tf_2015", "AuxLogits/conv_5x5", truncated(0.01)),
    ("inception_v3", "tf_2015", "AuxLogits/linear", truncated(0.001)),
    ("inception_v3", "tf_2015", "Logits/linear", truncated(0.01)),
    # torchvision, init_weights=True: cut at +-2 in absolute units, which is not at all
    ("inception_v3", "torchvision", "Mixed_6e/branch_1/conv_1x7", normal(0.1)),
    ("inception_v3", "torchvision", "AuxLogits/conv_5x5", normal(0.01)),
    ("inception_v3", "torchvision", "AuxLogits/linear", normal(0.001)),
    ("inception_v3", "torchvision", "Logits/linear", normal(0.1)),
    ("googlenet", "torchvision", "Mixed_5c/branch_1/conv_3x3", normal(0.01)),
    # timm inception_v3.py does the same; PyTorch's own law where a release says nothing
    ("inception_v3", "timm", "AuxLogits/conv_5x5", normal(0.01)),
    ("inception_v4", "timm", "Logits/linear", torch_linear),
    ("bn_inception", "cadene", "Mixed_4b/branch_1/conv_3x3", torch_linear),
    # Caffe "xavier"
    ("googlenet", "caffe", "Mixed_5c/branch_1/conv_3x3", caffe_xavier),
    ("googlenet", "caffe", "Aux_Mixed_4b/linear", caffe_xavier),
    ("googlenet", "caffe", "Logits/linear", caffe_xavier),
    # keras.applications
    ("inception_v3", "keras", "Mixed_6e/branch_1/conv_1x7", glorot),
    ("inception_resnet_v2", "keras", "Logits/linear", glorot),
    ("resnet50", "keras", "block3_unit_2/conv_3x3", glorot),
    # torchvision resnet.py: Kaiming's law on what an input feeds
    ("resnet50", "torchvision", "block2_unit_1/conv_1x1", kaiming(1)),
    ("resnet50", "torchvision", "block2_unit_1/conv_3x3", kaiming(1)),
    ("resnet50", "torchvision", "Logits/linear", torch_linear),
    # wide-residual-networks: on what a value is fed by; resnet-1k-layers on what an input feeds
    ("wrn_28_10", "paper", "block1_unit_1/conv_3x3", kaiming(0)),
    ("cifar_preact_resnet164", "paper", "block3_unit_1/conv_1x1_2", kaiming(1)),
    # "small random Gaussian values"; the deviation is ours
    ("mnist", "paper", "Hidden_1/linear", normal(0.1)),
]
QUICK = {
    ("googlenet", "caffe"), ("googlenet", "tf_slim"), ("resnet50", "torchvision"),
    ("resnet50", "keras"), ("wrn_28_10", "paper"), ("mnist", "paper"),
}  # fmt: skip
SAMPLED = [case for case in LAWS if case[:2] in QUICK]
"""Between them every law, of networks that are traced quickly."""


@pytest.mark.parametrize(
    ("name", "variant", "path", "expected"),
    sweep(LAWS, SAMPLED),
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_kernel_initializers_follow_the_distributions_of_the_released_code(
    name, variant, path, expected
):
    law, shape = kernels(name, variant)[path]
    deviation, bound = expected(shape)
    draws = [
        np.asarray(make_initializer(law)(jax.random.key(i), shape, jnp.float32)).ravel()
        for i in range(1 + 40_000 // prod(shape))
    ]
    values = np.concatenate(draws)
    assert values.size > 10_000
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert abs(values.mean()) < 5 * deviation / sqrt(values.size)
    if bound is None:
        assert np.abs(values).max() > 3 * deviation
    else:
        assert 0.98 * bound < np.abs(values).max() <= bound * (1 + 1e-6)


def test_biases_are_initialised_as_in_caffe():
    """0.2 in convolutions and in the auxiliary heads' hidden layer, 0 in classifiers."""
    table = get_architecture("googlenet", "caffe")
    network = Network(table, num_classes=5, aux=True)
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    assert params["Mixed_3b"]["branch_0"]["conv_1x1"]["bias"].shape == (64,)
    hidden, _, classifier = (word for word in flatten(table.aux[0].steps[2:]))
    assert (table.unit.bias_init, hidden.bias_init, classifier.bias_init) == (0.2, 0.2, 0.0)
    options = {"end_points": ("Conv2d_1a_7x7",), "stop": True}
    first = network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), **options)["params"]
    assert float(first["Conv2d_1a_7x7"]["conv_7x7"]["bias"].min()) == pytest.approx(0.2)
