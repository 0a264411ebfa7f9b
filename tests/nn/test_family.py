"""Promises that every network of the family keeps: gradients, receptive fields, legal sizes,
errors that name the place.
"""

from dataclasses import replace
from functools import cache

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.random_variables import variables
from benchmarks.small_networks import each_row_once
from inception_jax.models import REGISTRY, get_architecture
from inception_jax.models.modules import DRAWINGS
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.nn.pooling import pool
from inception_jax.spec.geometry import slide_window
from inception_jax.spec.measure import TooSmallError, measure, min_image_size
from inception_jax.spec.vocabulary import (
    Architecture,
    Linear,
    Pool,
    Residual,
    Unit,
    concat,
    global_avg,
    rewrite_words,
    same,
    table,
    valid,
)
from inception_jax.spec.width import widen
from tests.tiers import sweep


@cache
def least(name, variant=None):
    return min_image_size(get_architecture(name, variant))


def of_distinct_rows():
    """The first network of each set of rows: those that differ in how often a row is repeated
    alone (resnet50, 101, 152) are one.
    """
    first = {}
    for name in REGISTRY:
        table = get_architecture(name)
        first.setdefault(
            (frozenset(steps for _, steps in table.layers), table.unit, table.aux), name
        )
    return list(first.values())


DEFAULT = ("bn_inception_small", "inception_resnet_v1", "preact_resnet50")
"""A concatenation with auxiliary heads, a residual block, a pre-activation."""


@pytest.mark.parametrize("name", sweep(of_distinct_rows(), DEFAULT))
def test_every_kernel_has_a_finite_non_zero_gradient_at_the_smallest_image_size(name):
    """Batch 4, auxiliary heads on: finite everywhere, and no kernel on the path to the loss is
    left without a gradient.
    """
    network = create(name, aux=True, num_classes=5)
    network = network.clone(architecture=each_row_once(network.architecture))
    tree = variables(network, image_size=least(name))
    images = jax.random.normal(
        jax.random.key(1), (4, least(name), least(name), network.architecture.channels)
    )
    labels = jnp.arange(4)

    def loss(params):
        outputs, _ = network.apply(
            {**tree, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )
        return sum(
            optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            for logits in (outputs.logits, *outputs.aux)
        )

    value, gradients = jax.jit(jax.value_and_grad(loss))(tree["params"])
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_flatten_with_path(jax.device_get(gradients))[0]:
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert not path[-1].key.endswith("kernel") or np.any(leaf != 0), jax.tree_util.keystr(path)


def averaging(word):
    """An average pool for a max pool: what a window sees does not depend on which it is."""
    return replace(word, kind="avg", pad_value=None) if isinstance(word, Pool) else word


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant", "end_point"),
    [
        ("googlenet", "torchvision", "Mixed_4b"),
        ("inception_v3", "released", "Mixed_6b"),
        ("preact_resnet50", "tf_slim", "block3_unit_1"),
    ],
)
def test_measured_receptive_fields_match_gradients_of_positive_weights(name, variant, end_point):
    wide = widen(get_architecture(name, variant), 0.125)
    network = Network(
        replace(rewrite_words(wide, averaging), unit=replace(wide.unit, norm=False, bias=False)),
        num_classes=0,
    )
    place = measure(wide).end_points[end_point]
    images = jnp.ones((1, wide.input_size, wide.input_size, 3))
    options = {"end_points": (end_point,), "stop": True}
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, **options))
    tree = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 1 / max(np.prod(leaf.shape[:-1]), 1)), shapes
    )

    def centre(images, row, column):
        return network.apply(tree, images, **options).end_points[end_point][0, row, column].sum()

    row, column = place.shape[0] // 2, place.shape[1] // 3
    seen = jax.jit(jax.grad(centre))(images, row, column)[0].sum(-1) != 0
    for axis, position, sight in ((1, row, place.rows), (0, column, place.columns)):
        found = np.flatnonzero(seen.any(axis))
        expected = np.clip(
            [sight.first + position * sight.jump, sight.last + position * sight.jump],
            0,
            wide.input_size - 1,
        )
        assert [found[0], found[-1]] == list(expected)
        assert expected[1] - expected[0] > 40


GEOMETRIES = ("googlenet", "bn_inception", "resnet50", "preact_resnet50")
"""Their variants pad differently."""


@pytest.mark.parametrize("name", REGISTRY)
def test_the_smallest_image_size_is_accepted_and_one_pixel_less_is_refused(name):
    for variant in REGISTRY[name] if name in GEOMETRIES else (None,):
        table, size = get_architecture(name, variant), least(name, variant)
        measure(table, image_size=size)
        if size > 1:
            with pytest.raises(
                ValueError,
                match=(
                    f"smallest image that {name} takes is {size}x{size}|branches of different size"
                ),
            ):
                measure(table, image_size=size - 1)


def test_the_smallest_image_sizes_are_75_for_inception_and_1_for_resnet50():
    """Keras documents 75 for Inception-v3 and InceptionResNetV2."""
    expected = {"inception_v3": 75, "inception_v4": 75, "inception_resnet_v2": 75, "resnet50": 1}
    assert {name: least(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "factor"),
    sweep(
        [
            (name, factor)
            for name in REGISTRY
            if get_architecture(name).aux
            for factor in (0, 0.6, 1, 1.3)
        ],
        [("googlenet", 0), ("bn_inception_small", 1.3), ("inception_v3", 0), ("inception_v3", 0.6)],
    ),
)
def test_auxiliary_heads_can_be_built_at_any_legal_image_size(name, factor):
    size = max(least(name), round(factor * get_architecture(name).input_size))
    network = create(name, aux=True, num_classes=7)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    key = jax.random.key(0)
    outputs, _ = jax.eval_shape(
        lambda x: network.init_with_output({"params": key, "dropout": key}, x, train=True), image
    )
    assert [logits.shape for logits in (outputs.logits, *outputs.aux)] == [(2, 7)] * (
        1 + len(network.architecture.aux)
    )


def test_the_error_for_a_too_small_image_names_the_layer_and_the_smallest_size():
    image = jax.ShapeDtypeStruct((1, 74, 74, 3), jnp.float32)
    with pytest.raises(
        TooSmallError,
        match=(
            r"Mixed_7a/branch_0/conv_3x3: .* smallest image that inception_v3 takes is 75x75, this "
            r"one is 74x74"
        ),
    ):
        jax.eval_shape(create("inception_v3").init, jax.random.key(0), image)


def test_branches_of_different_size_are_refused_before_any_compilation():
    rows = table(
        Stem=same(8, 3), Mixed=concat(same(8, 1), valid(8, 3)), Pool=global_avg(), Logits=Linear()
    )
    image = jax.ShapeDtypeStruct((1, 9, 9, 3), jnp.float32)
    with pytest.raises(
        ValueError,
        match=(
            r"Mixed: branches of different size cannot be joined: branch_0 \(9, 9, 8\), branch_1 "
            r"\(7, 7, 8\)"
        ),
    ):
        jax.eval_shape(
            Network(Architecture("mine", "paper", rows, "tests")).init, jax.random.key(0), image
        )


def test_a_residual_sum_of_different_channels_is_refused_before_any_compilation():
    rows = table(Stem=same(8, 3), Unit_1=Residual(same(16, 3)), Pool=global_avg(), Logits=Linear())
    image = jax.ShapeDtypeStruct((1, 9, 9, 3), jnp.float32)
    with pytest.raises(
        ValueError, match=r"Unit_1: the shortcut is \(9, 9, 8\) but the branch is \(9, 9, 16\)"
    ):
        jax.eval_shape(
            Network(Architecture("mine", "paper", rows, "tests")).init, jax.random.key(0), image
        )


def test_images_of_other_channels_than_the_weights_are_refused():
    network = create("bn_inception_small", num_classes=10)
    tree = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(flax.errors.ScopeParamShapeError, match=r"Conv2d_1a_3x3/conv_3x3"):
        jax.eval_shape(network.apply, tree, jnp.zeros((1, 32, 32, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.17, 1.0])
def test_an_inception_resnet_block_without_its_branch_is_relu_or_the_identity(scale):
    """Oracle: with the up convolution at zero, every Inception-ResNet block but the last is
    ReLU(x).
    """
    blocks = dict(get_architecture("inception_resnet_v2").layers)
    name = "block35_1" if scale == 0.17 else "Block8"
    block, channels = blocks[name], 320 if scale == 0.17 else 2080
    assert block.scale == scale
    x = jax.random.normal(jax.random.key(0), (1, 3, 3, channels))
    network = Network(
        Architecture("block", "", ((name, block),), "tests", channels=channels), num_classes=0
    )
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x))
    tree = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, 0.0 if "up" in str(path) else 0.1), shapes
    )
    output = network.apply(tree, x, end_points=(name,)).end_points[name]
    np.testing.assert_array_equal(output, jax.nn.relu(x) if scale == 0.17 else x)


@pytest.mark.slow
def test_a_residual_block_with_a_norm_on_its_sum_returns_normalised_values():
    x = jax.random.normal(jax.random.key(0), (8, 4, 4, 6)) * 3 + 5
    block = Residual(same(6, 3, norm=False, activation="linear"), norm=True, activation="linear")
    network = Network(
        Architecture("sum", "", (("Unit", block),), "tests", channels=6), num_classes=0
    )
    tree = network.init(jax.random.key(0), x)
    output, _ = network.apply(tree, x, train=True, mutable=["batch_stats"], end_points=("Unit",))
    total = output.end_points["Unit"]
    np.testing.assert_allclose(total.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(total.std((0, 1, 2)), 1, atol=1e-3)
    assert "sum_norm" in tree["params"]["Unit"]


def test_the_predictions_are_an_end_point():
    network = create("mnist_bn")
    x = jax.random.normal(jax.random.key(0), (3, 28, 28, 1))
    outputs = network.apply(variables(network), x, end_points=("Predictions", "Hidden_3"))
    np.testing.assert_allclose(
        outputs.end_points["Predictions"], jax.nn.softmax(outputs.logits), rtol=1e-6
    )
    assert outputs.end_points["Hidden_3"].shape == (3, 100)


def test_an_early_end_point_is_legal_for_an_image_too_small_for_the_rest():
    image = jax.ShapeDtypeStruct((1, 40, 40, 3), jnp.float32)
    network, options = create("inception_v3"), {"end_points": ("Mixed_5d",), "stop": True}
    outputs, _ = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, **options), image
    )
    assert outputs.end_points["Mixed_5d"].shape == (1, 2, 2, 288)
    assert outputs.logits is None


def test_a_network_without_classes_has_no_logits_end_point():
    network, image = (
        create("googlenet", num_classes=0),
        jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),
    )
    assert not {"Logits", "Predictions"} & set(
        measure(get_architecture("googlenet"), num_classes=0).end_points
    )
    with pytest.raises(ValueError, match="no end point Logits"):
        jax.eval_shape(lambda x: network.init(jax.random.key(0), x, end_points=("Logits",)), image)


@pytest.mark.slow
def test_auxiliary_heads_are_end_points_while_training():
    network = create("bn_inception_small", aux=True)
    x, key = jnp.ones((2, 32, 32, 3)), jax.random.key(0)

    def head(train):
        options = {
            "train": train,
            "mutable": ["batch_stats"],
            "end_points": ("Aux_Mixed_4e",),
            "rngs": {"dropout": key},
        }
        return jax.eval_shape(lambda: network.apply(variables(network), x, **options))[0]

    assert head(True).end_points["Aux_Mixed_4e"].shape == (2, 10)
    with pytest.raises(
        ValueError, match=r"no end point Aux_Mixed_4e.*while training with aux=True"
    ):
        head(False)


def test_facenet_embeddings_are_the_512_features_before_the_classifier():
    network = create("inception_resnet_v1", variant="facenet_embedding", num_classes=0)
    image = jax.ShapeDtypeStruct((2, 160, 160, 3), jnp.float32)
    outputs, tree = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x), image)
    assert outputs.logits.shape == (2, 512)
    assert "Logits" not in tree["params"]


def test_an_early_end_point_computes_only_the_convolutions_up_to_it():
    """The program for an early end point holds the convolutions up to it and no others."""
    network = create("googlenet", variant="torchvision")
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tree = jax.eval_shape(network.init, jax.random.key(0), image)

    def early(tree, x):
        return network.apply(tree, x, end_points=("Conv2d_2c_3x3",), stop=True).end_points

    assert (
        str(jax.make_jaxpr(early)(tree, image)).count("conv_general_dilated[") == 2
    )  # the third is a matrix product


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_modules_drawn_in_the_papers_run_with_their_measured_shapes_and_counts(name):
    drawing = DRAWINGS[name]
    image = jax.ShapeDtypeStruct(
        (2, drawing.input_size, drawing.input_size, drawing.channels), jnp.float32
    )
    network = Network(drawing, num_classes=0)
    outputs, tree = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x), image)
    measured = measure(drawing)
    assert outputs.logits.shape[1:] == measured.end_points["Module"].shape
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == measured.parameters


def test_adaptive_average_pooling_follows_pytorchs_window_rule():
    x = np.random.default_rng(0).normal(size=(1, 5, 11, 2)).astype(np.float32)
    ours = pool(jnp.asarray(x), Pool("avg", None, grid=(4, 4)), Unit())
    for i in range(4):
        for j in range(4):
            rows, columns = (
                slice(i * 5 // 4, -(-(i + 1) * 5 // 4)),
                slice(j * 11 // 4, -(-(j + 1) * 11 // 4)),
            )
            np.testing.assert_allclose(
                ours[0, i, j], x[0, rows, columns].mean((0, 1)), rtol=1e-5, atol=1e-6
            )


def test_a_layer_of_a_symmetric_network_can_use_tensorflows_padding():
    assert slide_window(112, 3, 2, "tensorflow", "symmetric") == slide_window(
        112, 3, 2, "same", "tensorflow"
    )
    assert slide_window(112, 3, 2, "same", "symmetric").before == 1
