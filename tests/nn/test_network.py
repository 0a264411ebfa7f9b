import re
from dataclasses import replace
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from benchmarks import random_variables as invented
from inception_jax.models import get_architecture
from inception_jax.nn.create import create
from inception_jax.nn.network import Block, Network
from inception_jax.nn.norm import BatchNorm
from inception_jax.spec.depth import count_depth
from inception_jax.spec.measure import measure
from inception_jax.spec.vocabulary import (
    Conv,
    LocalResponse,
    Residual,
    UnknownWordError,
    layer,
    name_words,
    same,
)
from tests.spec.probes import (
    CEIL,
    EXPECTED,
    LRN,
    OPTION_A,
    PREACTIVATION,
    SEPARABLE,
    ZERO_PADDED,
    probe,
)
from tests.tiers import sweep

KEY = jax.random.key(0)


def images(architecture, batch=2):
    return jax.random.normal(
        jax.random.key(1), (batch, architecture.input_size, architecture.input_size, 3)
    )


@pytest.fixture(scope="module")
def digits():
    network = create("bn_inception_small", num_classes=10, aux=True, dropout_rate=0.5)
    return network, invented.variables(network)


@pytest.mark.slow
@pytest.mark.parametrize("table", EXPECTED, ids=lambda table: table.name)
def test_probe_networks_run_with_their_measured_shapes_and_counts(table):
    network, measured = Network(table, num_classes=10), measure(table, num_classes=10)
    variables = invented.variables(network)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == measured.parameters
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(variables.get("batch_stats", {})))
        == measured.batch_stats
    )

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient(params):
        given = {**variables, "params": params}
        outputs, _ = network.apply(
            given,
            images(table),
            train=True,
            mutable=["batch_stats"],
            end_points=tuple(measured.end_points),
        )
        return outputs.logits[:, 0].sum(), outputs.end_points

    found, end_points = gradient(variables["params"])
    assert {name: x.shape[1:] for name, x in end_points.items()} == {
        name: place.shape for name, place in measured.end_points.items()
    }
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_local_response_normalisation_matches_caffes_formula():
    x = np.asarray(jax.random.normal(KEY, (2, 3, 3, 7))) * 30
    network = Network(replace(LRN, layers=(("LRN", LocalResponse()),)))
    found = network.apply({}, jnp.asarray(x), end_points=("LRN",)).end_points["LRN"]
    wanted = np.empty_like(x)
    for channel in range(7):
        window = x[..., max(0, channel - 2) : channel + 3]
        wanted[..., channel] = x[..., channel] / (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


@pytest.mark.slow
def test_one_preactivation_feeds_branch_and_projection():
    """With the branch's last kernel at zero, unit 1 is the projection of the norm's output, and
    unit 2 the identity.
    """
    network = Network(PREACTIVATION, num_classes=10)
    variables = invented.variables(network)
    norm, stats = variables["params"]["Unit_1"]["norm"], variables["batch_stats"]["Unit_1"]["norm"]
    for unit in ("Unit_1", "Unit_2"):
        kernel = variables["params"][unit]["conv_1x1_2"]
        kernel["kernel"] = jnp.zeros_like(kernel["kernel"])
    points = network.apply(
        variables, images(PREACTIVATION), end_points=("Stem", "Unit_1", "Unit_2")
    ).end_points
    normalised = nn.relu(
        (points["Stem"] - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * norm["scale"]
        + norm["bias"]
    )
    projection = (
        normalised[:, ::2, ::2]
        @ variables["params"]["Unit_1"]["shortcut"]["conv_1x1"]["kernel"][0, 0]
    )
    np.testing.assert_allclose(points["Unit_1"], projection, atol=1e-5)
    np.testing.assert_array_equal(points["Unit_2"], points["Unit_1"])


@pytest.mark.slow
def test_the_option_a_shortcut_subsamples_and_fills_with_zeros():
    network = Network(OPTION_A, num_classes=10)
    variables = invented.variables(network)
    last = variables["params"]["Unit_1"]
    last["conv_3x3_2"]["norm"] = jax.tree.map(jnp.zeros_like, last["conv_3x3_2"]["norm"])
    points = network.apply(variables, images(OPTION_A), end_points=("Stem", "Unit_1")).end_points
    np.testing.assert_allclose(points["Unit_1"][..., :16], points["Stem"][:, ::2, ::2], atol=1e-6)
    assert not points["Unit_1"][..., 16:].any()


def test_caffes_ceil_pools_extend_past_the_border_and_count_only_real_pixels():
    network = Network(replace(CEIL, layers=CEIL.layers[1:3]))
    x = jnp.arange(64.0).reshape(1, 8, 8, 1)
    points = network.apply({}, x, end_points=("Max", "Avg")).end_points
    np.testing.assert_array_equal(points["Max"][0, :, :, 0], x[0, [2, 4, 6, 7]][:, [2, 4, 6, 7], 0])
    largest = np.asarray(points["Max"][0, :, :, 0])
    assert points["Avg"][0, 1, 1, 0] == largest[2:, 2:].mean()


def test_the_keras_max_pool_pads_negative_values_with_zeros():
    network = Network(replace(ZERO_PADDED, layers=ZERO_PADDED.layers[1:2]))
    largest = network.apply({}, -jnp.ones((1, 8, 8, 1)), end_points=("Max",)).end_points["Max"][
        0, :, :, 0
    ]
    assert not largest[0].any()
    assert not largest[:, 0].any()
    assert (largest[1:, 1:] == -1).all()


def test_a_separable_convolution_is_depthwise_then_pointwise():
    network = Network(SEPARABLE, num_classes=10)
    variables = invented.variables(network)
    stem = variables["params"]["Stem"]["conv_7x7"]
    assert {name: leaf.shape for name, leaf in stem.items()} == {
        "depthwise_kernel": (7, 7, 1, 24), "kernel": (1, 1, 24, 16), "bias": (16,),
    }  # fmt: skip
    x = images(SEPARABLE)
    padded = np.pad(np.asarray(x), ((0, 0), (2, 3), (2, 3), (0, 0)))
    middle = np.zeros((2, 4, 4, 24))
    for i in range(4):
        for j in range(4):
            patch = padded[:, 2 * i : 2 * i + 7, 2 * j : 2 * j + 7]
            kernel = np.asarray(stem["depthwise_kernel"]).reshape(7, 7, 3, 8)
            middle[:, i, j] = np.einsum("bhwc,hwcm->bcm", patch, kernel).reshape(2, 24)
    wanted = np.maximum(middle @ np.asarray(stem["kernel"])[0, 0] + np.asarray(stem["bias"]), 0)
    found = network.apply(variables, x, end_points=("Stem",)).end_points["Stem"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_residual_block_of_scale_zero_is_relu_despite_its_expansion_convolution():
    table = probe(
        "scaled",
        Stem=same(16, 3),
        Block=Residual((same(8, 1), same(8, 3)), expansion_conv=True, scale=0.0),
    )
    network = Network(table, num_classes=10)
    variables = invented.variables(network)
    assert variables["params"]["Block"]["up"]["kernel"].shape == (1, 1, 8, 16)
    points = network.apply(variables, images(table), end_points=("Stem", "Block")).end_points
    np.testing.assert_array_equal(points["Block"], nn.relu(points["Stem"]))


class Doubled(nn.Module):
    """For the open word: any module called as module(x, train=train)."""

    times: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(x.shape[-1] * self.times)(x)


def test_the_layer_word_admits_any_module_that_can_be_imported():
    table = probe("open", Mine=layer("tests.nn.test_network:Doubled", times=2))
    network = Network(table, num_classes=10)
    variables = invented.variables(network)
    assert network.apply(variables, images(table), end_points=("Mine",)).end_points[
        "Mine"
    ].shape == (2, 8, 8, 6)
    with pytest.raises(ValueError, match=r"nowhere:Class.*cannot be imported"):
        Network(probe("open", Mine=layer("nowhere:Class"))).init(KEY, images(table))


def test_the_variable_collections_of_a_network_are_params_and_batch_stats(digits):
    assert set(digits[1]) == {"params", "batch_stats"}


@pytest.mark.slow
def test_evaluation_changes_no_variables_and_needs_no_random_key(digits):
    network, variables = digits
    x = images(network.architecture)
    _, updated = jax.jit(
        lambda v: network.apply(v, x, train=False, mutable=["batch_stats", "params"])
    )(variables)
    for found, wanted in zip(
        jax.tree.leaves(updated), jax.tree.leaves({k: variables[k] for k in updated}), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_network_refuses_training_without_mutable_batch_stats(digits):
    network, variables = digits
    with pytest.raises(ValueError, match=r"mutable=\['batch_stats'\]"):
        network.apply(variables, images(network.architecture), train=True, rngs={"dropout": KEY})


@pytest.mark.slow
def test_auxiliary_heads_leave_nothing_in_the_evaluation_program(digits):
    network, variables = digits
    x = images(network.architecture)
    outputs = jax.eval_shape(
        lambda v, x: network.apply(
            v, x, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}
        )[0],
        variables,
        x,
    )
    assert [logits.shape for logits in outputs.aux] == [(2, 10), (2, 10)]
    with_heads = jax.jit(lambda v, x: network.apply(v, x)).lower(variables, x).as_text()
    without = (
        jax.jit(lambda v, x: network.clone(aux=False).apply(v, x)).lower(variables, x).as_text()
    )

    def operations(text):
        return re.findall(r"= \"?(stablehlo\.\w+)", text)

    assert operations(with_heads) == operations(without)
    assert jax.eval_shape(network.apply, variables, x).aux == ()


def test_apply_returns_the_requested_end_points_and_can_stop_at_the_deepest(digits):
    network, variables = digits
    x = images(network.architecture)
    both = jax.eval_shape(
        lambda v: network.apply(v, x, end_points=("Mixed_4a", "Mixed_3b"), stop=True), variables
    )
    assert both.logits is None
    assert both.end_points["Mixed_4a"].shape == (2, 4, 4, 144)
    text = (
        jax.jit(lambda v, x: network.apply(v, x, end_points=("Mixed_3b",), stop=True).end_points)
        .lower(variables, x)
        .as_text()
    )
    assert text.count("convolution") < 10
    with pytest.raises(ValueError, match="no end point Mixed_9z; it has Conv2d_1a_3x3"):
        network.apply(variables, x, end_points=("Mixed_9z",))


def test_a_network_without_classes_returns_the_pooled_features(digits):
    _, variables = digits
    features = jax.eval_shape(
        create("bn_inception_small", num_classes=0).apply,
        variables,
        images(get_architecture("bn_inception_small")),
    ).logits
    assert features.shape == (2, 256)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_parameters_and_logits_are_float32_at_either_compute_dtype(dtype):
    network = create("bn_inception_small", num_classes=10, dtype=dtype)
    x = images(network.architecture)
    variables = jax.eval_shape(network.init, KEY, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    outputs = jax.eval_shape(lambda v: network.apply(v, x, end_points=("Mixed_5c",)), variables)
    assert outputs.logits.dtype == jnp.float32
    assert outputs.end_points["Mixed_5c"].dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("table", [PREACTIVATION, CEIL, LRN], ids=lambda table: table.name)
def test_bfloat16_logits_stay_close_to_float32_logits(table):
    network = Network(table, num_classes=10)
    variables, x = invented.variables(network), images(table, 8)
    full = network.apply(variables, x).logits
    half = network.clone(dtype=jnp.bfloat16).apply(variables, x).logits
    assert float(jnp.abs(full - half).max() / jnp.abs(full).max()) < 0.03


@pytest.mark.nightly
def test_kernels_begin_as_truncated_normals_of_variance_two_over_fan_in():
    network = create("bn_inception")
    variables = jax.jit(network.init)(KEY, jnp.zeros((1, 224, 224, 3)))
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables["params"])[0]:
        if path[-1].key == "kernel" and leaf.size > 10_000:
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            assert abs(float(leaf.std()) / deviation - 1) < 0.02, path
            assert float(jnp.abs(leaf).max()) <= 2 * deviation / 0.87962566 + 1e-6, path


def normalised_kernels(table):
    """The path of every normalised convolution of `table`, found by enumeration."""
    return [row.path for row in measure(table).rows if row.kind == "conv" and row.batch_stats]


@pytest.mark.parametrize("every", sweep([False, True], [False]))
def test_every_normalised_convolution_is_invariant_to_the_scale_of_its_kernel(every, x64):
    """Section 3.3 at epsilon 0: BN((aW)u) = BN(Wu), the gradient is scaled by 1/a, and <W, dL/dW>
    = 0.

    Of the first convolution of each kernel, stride and padding, or of all.
    """
    table = get_architecture("bn_inception")
    words = {
        f"{end_point}/{branch}{name}": word
        for end_point, steps in table.layers
        for branch, branch_steps in (
            ((f"branch_{i}/", s) for i, s in enumerate(steps.branches))
            if hasattr(steps, "branches")
            else [("", steps)]
        )
        for name, word in name_words(branch_steps)
        if isinstance(word, Conv)
    }
    inputs = {row.path: row.input[-1] for row in measure(table).rows}
    assert set(words) == set(normalised_kernels(table))
    assert len(words) == 69
    kinds = {
        (word.kernel, word.stride, word.padding): path for path, word in reversed(words.items())
    }
    rng = np.random.default_rng(0)
    for path, word in words.items() if every else [(path, words[path]) for path in kinds.values()]:
        block = replace(
            table,
            layers=(("Block", word),),
            aux=(),
            unit=replace(table.unit, norm_epsilon=0.0),
            input_size=5,
        )
        network = Network(block, dtype=jnp.float64)
        u = jnp.asarray(rng.normal(size=(3, 5, 5, inputs[path])))
        pick = rng.normal(size=measure(block, channels=inputs[path]).end_points["Block"].shape)
        name, filters = f"conv_{word.kernel[0]}x{word.kernel[1]}", word.filters
        norm = {
            "scale": jnp.asarray(rng.normal(1, 0.2, filters)),
            "bias": jnp.asarray(rng.normal(size=filters)),
        }
        statistics = {"mean": jnp.zeros(filters), "var": jnp.ones(filters)}
        kernel = jnp.asarray(rng.normal(size=(*word.kernel, inputs[path], filters)))

        def loss(
            kernel, network=network, u=u, pick=pick, name=name, norm=norm, statistics=statistics
        ):
            variables = {
                "params": {"Block": {name: {"kernel": kernel, "norm": norm}}},
                "batch_stats": {"Block": {name: {"norm": statistics}}},
            }
            outputs, _ = network.apply(
                variables, u, train=True, mutable=["batch_stats"], end_points=("Block",)
            )
            return (outputs.end_points["Block"] * pick).sum(), outputs.end_points["Block"]

        slope = jax.jit(jax.grad(loss, has_aux=True))
        gradient, y = slope(kernel)
        scale = float(jnp.abs(gradient).max())
        assert abs(float((kernel * gradient).sum())) < 1e-9 * scale * kernel.size
        for a in (0.1, 10.0):
            scaled_gradient, scaled_y = slope(a * kernel)
            np.testing.assert_allclose(scaled_y, y, atol=1e-10, err_msg=path)
            np.testing.assert_allclose(
                scaled_gradient * a, gradient, atol=1e-10 * scale, err_msg=path
            )


@pytest.mark.nightly
@pytest.mark.parametrize("variant", ["paper", "cadene"])
def test_a_training_step_of_full_size_bn_inception_lowers_the_loss(variant):
    network = create("bn_inception", variant=variant)
    x = jax.random.normal(KEY, (2, 224, 224, 3))
    variables = jax.jit(network.init)(KEY, x)

    @jax.jit
    def step(variables):
        def loss(params):
            outputs, updated = network.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return -jax.nn.log_softmax(outputs.logits)[:, 3].mean(), updated

        (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.01 * g, variables["params"], gradient)
        return value, gradient, {"params": params, **updated}

    before, gradient, variables = step(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(gradient)[0]
        if path[-1].key == "kernel"
    ]
    assert all(jnp.abs(leaf).max() > 0 for leaf in kernels)
    assert step(variables)[0] < before


def test_create_suggests_the_nearest_name_for_an_unknown_model():
    with pytest.raises(ValueError, match="did you mean bn_inception"):
        inception_jax.create("bn_inceptin")
    assert isinstance(create("bn_inception", examples_per_group=8).norm(), BatchNorm)


@pytest.mark.nightly
def test_recomputation_keeps_the_gradients_and_stores_less_than_a_third_of_the_bytes(x64):
    """A gradient of a small ResNet: the same but for rounding, and what waits for it is less than
    a third of the bytes.

    Of the trace, not of the program: XLA's CPU compiler takes both computations for one again.
    """
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    found, kept = [], []
    for recompute in ((), ("block*",)):
        network = create("cifar_resnet20", num_classes=10, recompute=recompute, dtype=jnp.float64)
        tree = invented.variables(network, image_size=16)

        def loss(params, network=network, tree=tree):
            outputs, updated = network.apply(
                {**tree, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return jnp.square(outputs.logits).mean(), updated

        found.append(jax.jit(jax.grad(loss, has_aux=True))(tree["params"]))
        waiting = jax.eval_shape(
            lambda params, loss=loss: jax.vjp(loss, params, has_aux=True)[1], tree["params"]
        )
        kept.append(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(waiting)))
    chex.assert_trees_all_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(tree["params"]))
    assert kept[1] - weights < (kept[0] - weights) / 3, (kept, weights)


def test_the_recompute_option_refuses_an_unknown_end_point_by_name():
    with pytest.raises(ValueError, match=r"'Mixed_9'.*fits no end point of inception_v3"):
        create("inception_v3", recompute=("Mixed_9",))


class Stranger:
    """No word of the vocabulary."""


def test_an_unknown_word_in_a_table_is_refused_by_the_network_and_the_measurement():
    table = probe("strange", Conv=same(4, 3), Odd=Stranger())
    with pytest.raises(
        UnknownWordError, match=r"Odd/stranger: <.*Stranger.*> is no word that a table is made of"
    ):
        measure(table)
    with pytest.raises(UnknownWordError, match="Stranger"):
        count_depth(table)
    block = Block(architecture=probe("plain"), steps=(Stranger(),))
    with pytest.raises(UnknownWordError, match=r"stranger: .* is no word that a table is made of"):
        block.init(KEY, jnp.zeros((1, 8, 8, 3)), False)


class Within(nn.Module):
    """A network as a part of a larger module."""

    network: Network

    @nn.compact
    def __call__(self, x):
        return self.network(x)


def test_per_activation_norms_are_kept_inside_another_module():
    network = Network(
        probe("mine", A=same(4, 3), B=same(4, 3)), num_classes=10, per_activation_in=("B",)
    )
    alone = network.init(KEY, jnp.zeros((1, 8, 8, 3)))["params"]
    inside = Within(network).init(KEY, jnp.zeros((1, 8, 8, 3)))["params"]["network"]
    assert jax.tree.map(jnp.shape, inside) == jax.tree.map(jnp.shape, alone)
    assert inside["B"]["conv_3x3"]["norm"]["bias"].shape == (8, 8, 4)
    assert inside["A"]["conv_3x3"]["norm"]["bias"].shape == (4,)


@pytest.mark.parametrize("precision", [jax.lax.Precision.HIGHEST, None])
def test_logits_are_computed_at_the_highest_precision_and_all_else_at_the_platforms(precision):
    """On a TPU a product of float32 is one of bfloat16 by default, on a GPU one of TF32."""
    network = Network(
        probe("mine", A=same(4, 1), B=same(4, 3)), num_classes=10, precision=precision
    )
    tree = network.init(KEY, jnp.zeros((1, 8, 8, 3)))
    jaxpr = jax.make_jaxpr(lambda tree, x: network.apply(tree, x).logits)(
        tree, jnp.zeros((1, 8, 8, 3))
    )
    found = [
        eqn.params["precision"]
        for eqn in jaxpr.eqns
        if eqn.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    assert found[:-1] == [None, None]
    assert found[-1] == (precision and (precision, precision))


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("num_clases", "no keyword 'num_clases'; did you mean 'num_classes'"),
        ("examples_per_groups", "did you mean 'examples_per_group'"),
        ("pretrained", "it makes a network without weights; inception_jax.from_pretrained"),
        ("xyzzy", "there are aux, "),
        ("parent", "no keyword"),
    ],
)
def test_create_refuses_keywords_that_it_does_not_have(keyword, message):
    with pytest.raises(TypeError, match=message):
        create("mnist_bn", **{keyword: 3})
