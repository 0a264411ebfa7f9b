"""The rows D1 to D49 of docs/which_inception.md, in which the sources disagree.

Each row has a test of the effect of switching it. A row without a test fails, and so does a row
that the page lacks.
"""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models import AMBIGUOUS, get_architecture
from inception_jax.nn.network import Network
from inception_jax.nn.pooling import normalise_local_response, pool
from inception_jax.spec.depth import count_depth
from inception_jax.spec.geometry import slide_window
from inception_jax.spec.measure import measure
from inception_jax.spec.vocabulary import (
    Architecture,
    NormAct,
    Pool,
    Residual,
    Unit,
    avg,
    flatten,
    max_,
    same,
)
from tests.conftest import ROOT
from tests.models.claims import claims

ROWS = {}
PAGE = (ROOT / "docs" / "which_inception.md").read_text()

QUOTED = {
    # Rows about printed numbers instead of a network: the page names the figure to quote.
    10: "top-5 of ILSVRC 2014",
    26: "ensemble of Inception-v3",
    34: "caption of figure 18",
    37: "ResNet-152 in the AAAI table",
    38: "ResNet-151",
    42: "top-5 of WRN-50-2",
    43: "multi-crop BN-Inception",
    48: "arg scopes of slim's factory",
}


def row(number):
    def keep(check):
        ROWS[number] = check
        return check

    return keep


def measure_layer(name, variant, path):
    """Returns the measured row of one layer."""
    return next(row for row in measure(get_architecture(name, variant)).rows if row.path == path)


def words(name, variant, end_point):
    return list(flatten(dict(get_architecture(name, variant).layers)[end_point]))


def shape(name, variant, end_point):
    return measure(get_architecture(name, variant)).end_points[end_point].shape


def padding(word, unit, size=224):
    span = slide_window(size, word.kernel[0], word.stride[0], word.padding, unit.same)
    return span.before, span.after


def activations(table, end_point, images):
    network = Network(table)
    options = {"end_points": (end_point,), "stop": True}
    variables = network.init(jax.random.key(0), images, **options)
    return network.apply(variables, images, **options).end_points[end_point]


@row(1)
def a_full_or_a_separable_first_convolution():
    full, separable = (
        measure_layer("googlenet", variant, "Conv2d_1a_7x7/conv_7x7")
        for variant in ("paper", "separable")
    )
    assert (full.parameters - 64, full.multiply_adds) == (9_408, 118_013_952)
    assert (separable.parameters - 64, separable.multiply_adds) == (2_712, 34_019_328)


@row(2)
def five_by_five_or_three_by_three():
    for variant, kernel in {"paper": (5, 5), "torchvision": (3, 3), "tf_slim": (3, 3)}.items():
        module = dict(get_architecture("googlenet", variant).layers)["Mixed_4b"]
        assert module.branches[2][1].kernel == kernel


@row(3)
def the_last_pool():
    assert [
        words("googlenet", variant, "MaxPool_5a_2x2")[0].kernel[0]
        for variant in ("paper", "torchvision", "tf_slim")
    ] == [3, 2, 2]


@row(4)
def local_response_and_biases_or_batch_norm():
    counts = [
        measure(get_architecture("googlenet", variant)) for variant in ("paper", "batch_norm")
    ]
    assert [count.batch_stats for count in counts] == [0, 14_560]
    assert counts[1].parameters - counts[0].parameters == 7_280  # gamma and beta for a bias
    lrn = [sum("localresponse" in row.path for row in count.rows) for count in counts]
    assert lrn == [2, 0]


@row(5)
def alpha_is_divided_by_the_size():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 7)).astype(np.float32) * 50
    energy = np.stack([np.square(x[..., max(c - 2, 0) : c + 3]).sum(-1) for c in range(7)], -1)
    caffe, tensorflow = x / (1 + 1e-4 / 5 * energy) ** 0.75, x / (1 + 1e-4 * energy) ** 0.75
    ours = normalise_local_response(jnp.asarray(x), 5, 1e-4, 0.75, 1.0)
    np.testing.assert_allclose(ours, caffe, rtol=2e-6)
    assert np.abs(caffe - tensorflow).max() > 1


@row(6)
def where_strided_windows_start():
    googlenet = {
        variant: get_architecture("googlenet", variant) for variant in ("paper", "tf_slim")
    }
    stem = {
        variant: padding(words("googlenet", variant, "Conv2d_1a_7x7")[0], table.unit)
        for variant, table in googlenet.items()
    }
    assert stem == {"paper": (3, 3), "tf_slim": (2, 3)}
    pools = {
        variant: padding(words("resnet50", variant, "pool1")[0], Unit(), 112)
        for variant in ("torchvision", "caffe", "tf_slim")
    }
    assert pools == {"torchvision": (1, 1), "caffe": (0, 1), "tf_slim": (0, 1)}
    images = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    table = googlenet["paper"]
    symmetric = activations(table, "Conv2d_1a_7x7", images)
    shifted = activations(
        replace(table, unit=replace(table.unit, same="tensorflow")), "Conv2d_1a_7x7", images
    )
    assert symmetric.shape == shifted.shape
    assert jnp.abs(symmetric - shifted).max() > 0.1
    # The same grid again where the image is moved by the pixel:
    moved = activations(table, "Conv2d_1a_7x7", jnp.roll(images, (-1, -1), (1, 2)))
    np.testing.assert_allclose(moved[:, 2:-2, 2:-2], shifted[:, 2:-2, 2:-2], atol=1e-5)


@row(7)
def how_much_is_dropped():
    rates = {
        ("googlenet", "paper"): 0.4,
        ("googlenet", "tf_slim"): 0.2,
        ("googlenet", "torchvision"): 0.2,
    }
    rates |= {
        ("inception_v3", "torchvision"): 0.5,
        ("inception_v3", "tf_slim"): 0.2,
        ("inception_v3", "keras"): 0.0,
    }
    assert {key: get_architecture(*key).dropout_rate for key in rates} == rates


@row(8)
def pooling_under_the_auxiliary_heads():
    kinds = {
        variant: measure(get_architecture("googlenet", variant)).aux_rows[0]
        for variant in ("paper", "torchvision")
    }
    assert [(row.kind, row.kernel, row.output.shape) for row in kinds.values()] == [
        ("avg pool", (5, 5), (4, 4, 512)), ("adaptive avg pool", None, (4, 4, 512)),
    ]  # fmt: skip
    x = jax.random.normal(jax.random.key(0), (1, 14, 14, 2))
    four = pool(x, Pool("avg", None, grid=(4, 4)), Unit())
    for i, rows in enumerate([(0, 4), (3, 7), (7, 11), (10, 14)]):
        for j, columns in enumerate([(0, 4), (3, 7), (7, 11), (10, 14)]):
            np.testing.assert_allclose(
                four[0, i, j],
                x[0, slice(*rows), slice(*columns)].mean((0, 1)),
                rtol=1e-5,
                atol=1e-6,
            )
    assert jnp.abs(four - pool(x, avg(5, 3, "valid"), Unit())).max() > 0.1


@row(9)
def the_parameter_column_of_table_1():
    rows = measure(get_architecture("googlenet", "paper")).rows
    weights = {
        name: sum(
            row.parameters - row.output.shape[-1]
            for row in rows
            if row.path.startswith(name) and row.kind == "conv"
        )
        / 1024
        for name in ("Mixed_4d", "Mixed_5b")
    }
    assert {name: round(count, 1) for name, count in weights.items()} == {
        "Mixed_4d": 497.5,
        "Mixed_5b": 1018.0,
    }  # printed: 463, 1072


@row(11)
def the_projections_of_4c_and_4d():
    depths = {
        variant: [
            shape("bn_inception", variant, name)[-1]
            for name in ("Mixed_4d", "Mixed_4e", "Mixed_5a")
        ]
        for variant in ("paper", "cadene")
    }
    assert depths == {"paper": [576, 576, 1024], "cadene": [608, 608, 1056]}


@row(12)
def modules_with_stride_two_halve_the_grid():
    assert [shape("bn_inception", "paper", name)[0] for name in ("Mixed_4a", "Mixed_5a")] == [
        14,
        7,
    ]  # printed: 28, 14


@row(13)
def the_stem_of_bn_inception():
    expected = {
        "paper": (None, None, None),
        "printed": (8, None, None),
        "tf_slim": (8, False, True),
        "cadene": (None, None, None),
    }
    stems = {variant: words("bn_inception", variant, "Conv2d_1a_7x7")[0] for variant in expected}
    assert {
        variant: (stem.depth_multiplier, stem.norm, stem.bias) for variant, stem in stems.items()
    } == expected
    assert (
        measure_layer("bn_inception", "tf_slim", "Conv2d_1a_7x7/conv_7x7").parameters
        == 1_176 + 1_536 + 64
    )


@row(14)
def average_pools_count_their_padding():
    counts = {
        ("inception_v3", "torchvision"): True,
        ("inception_v3", "timm"): True,
        ("bn_inception", "cadene"): True,
    }
    counts |= {
        ("inception_v3", variant): False for variant in ("released", "tf_slim", "keras", "fid")
    }
    counts |= {
        ("inception_v4", "timm"): False,
        ("inception_resnet_v2", "timm"): False,
        ("bn_inception", "tf_slim"): False,
    }
    assert {key: get_architecture(*key).unit.count_include_pad for key in counts} == counts
    ones = jnp.ones((1, 5, 5, 1))
    assert pool(ones, avg(3), Unit(count_include_pad=False)).min() == 1
    assert pool(ones, avg(3), Unit(count_include_pad=True))[0, 0, 0, 0] == pytest.approx(4 / 9)


@row(15)
def a_bias_in_front_of_the_norm():
    table = get_architecture("bn_inception", "cadene")
    assert (
        measure(table).parameters
        - measure(replace(table, unit=replace(table.unit, bias=False))).parameters
        == 10_016
    )
    parameters = {
        variant: measure(get_architecture("resnet50", variant)).parameters
        for variant in ("torchvision", "keras", "caffe")
    }
    assert parameters == {"torchvision": 25_557_032, "keras": 25_583_592, "caffe": 25_557_096}


@row(16)
def gamma_or_none():
    for name, channels in {"inception_v3": 17_216, "inception_v4": 31_584}.items():
        default = measure(get_architecture(name)).parameters
        assert default - measure(get_architecture(name, "tf_slim")).parameters == channels
    assert not get_architecture("inception_v3", "keras").unit.norm_scale
    assert get_architecture("inception_v3", "timm").unit.norm_scale


@row(17)
def the_paper_counts_13_6_million():
    for variant in ("paper", "printed", "cadene", "tf_slim"):
        assert 11.1e6 < measure(get_architecture("bn_inception", variant)).parameters < 11.3e6


@row(18)
def two_networks_are_called_inception_v2():
    with pytest.warns(UserWarning, match="inception_v2_rethinking"):
        assert get_architecture("inception_v2").name == "bn_inception"
    assert "inception_v2" in AMBIGUOUS


@row(19)
def the_figures_of_the_three_module_types():
    layers = dict(get_architecture("inception_v2_rethinking").layers)
    assert [layers[name].figure for name in ("Mixed_5b", "Mixed_6b", "Mixed_7b")] == [
        "figure 5",
        "figure 6",
        "figure 7",
    ]


@row(20)
def the_stem_of_table_1_or_the_released_one():
    assert shape("inception_v2_rethinking", "paper", "Conv2d_4b_3x3") == (35, 35, 288)
    assert shape("inception_v3", "released", "MaxPool_5a_3x3") == (35, 35, 192)
    assert words("inception_v2_rethinking", "paper", "Conv2d_3b_3x3")[0].kernel == (3, 3)
    assert words("inception_v3", "released", "Conv2d_3b_1x1")[0].kernel == (1, 1)


@row(21)
def row_7_is_padded():
    conv = words("inception_v2_rethinking", "paper", "Conv2d_4b_3x3")[0]
    assert padding(conv, Unit(), 35) == (1, 1)
    assert slide_window(35, 3, 1, "valid", "tensorflow").size == 33
    assert "Conv2d_4b_3x3" in dict(get_architecture("inception_v2_rethinking").notes)


@row(22)
def four_or_five_modules_at_17():
    for variant, modules in {"paper": 4, "five_17x17": 5}.items():
        names = [name for name, _ in get_architecture("inception_v2_rethinking", variant).layers]
        assert sum(name.startswith("Mixed_6") for name in names) - 1 == modules


@row(23)
def a_5x5_is_left_in_v3():
    for name, kernel in {"inception_v3": (5, 5), "inception_v2_rethinking": (3, 3)}.items():
        assert dict(get_architecture(name).layers)["Mixed_5c"].branches[1][1].kernel == kernel


@row(24)
def forty_two_layers():
    assert (
        count_depth(get_architecture("inception_v2_rethinking")),
        count_depth(get_architecture("inception_v3")),
    ) == (49, 48)


@row(25)
def what_v3_costs():
    measured = measure(get_architecture("inception_v3"))
    assert measured.multiply_adds == 5_713_216_096
    assert measured.parameters < 25e6 < measured.parameters + measured.aux_parameters
    assert not next(claim for claim in claims() if claim.quote == "5 billion multiply-adds").holds


@row(27)
def the_last_pool_of_the_fid_graph():
    kinds = {
        variant: dict(get_architecture("inception_v3", variant).layers)["Mixed_7c"]
        .branches[3][0]
        .kind
        for variant in ("released", "fid")
    }
    assert kinds == {"released": "avg", "fid": "max"}


@row(28)
def one_by_seven_comes_first_in_the_stem_of_v4():
    branch = dict(get_architecture("inception_v4").layers)["Mixed_4a"].branches[1]
    assert [word.kernel for word in branch] == [(1, 1), (1, 7), (7, 1), (3, 3)]


@row(29)
def widths_that_the_sums_need():
    for variant, depths in {"paper": [384, 1152, 2144], "released": [320, 1088, 2080]}.items():
        assert [
            shape("inception_resnet_v2", variant, name)[-1]
            for name in ("block35_1", "block17_1", "block8_1")
        ] == depths


@row(30)
def the_stem_of_inception_resnet_v2():
    assert shape("inception_resnet_v2", "paper", "Mixed_5a") == (35, 35, 384)
    assert shape("inception_resnet_v2", "released", "Mixed_5b") == (35, 35, 320)
    v4, paper = (
        dict(get_architecture(*key).layers)
        for key in (("inception_v4", "paper"), ("inception_resnet_v2", "paper"))
    )
    assert all(v4[name] == paper[name] for name in ("Mixed_3a", "Mixed_4a", "Mixed_5a"))


@row(31)
def numbers_of_blocks():
    def blocks(variant):
        names = [
            name.lower() for name, _ in get_architecture("inception_resnet_v2", variant).layers
        ]
        return [
            sum(name.startswith(kind) for name in names)
            for kind in ("block35", "block17", "block8")
        ]

    assert (blocks("paper"), blocks("paper_10_20_10"), blocks("released")) == (
        [5, 10, 5],
        [10, 20, 10],
        [10, 20, 10],
    )


@row(32)
def residual_scales():
    blocks = dict(get_architecture("inception_resnet_v2").layers)
    assert [blocks[name].scale for name in ("block35_1", "block17_1", "block8_1", "Block8")] == [
        0.17,
        0.10,
        0.20,
        1.0,
    ]
    x, added = jax.random.normal(jax.random.key(0), (1, 3, 3, 4)), {}
    for scale in (0.17, 0.34):
        block = Residual(same(2, 1), scale=scale, expansion_conv=True, activation="linear")
        added[scale] = (
            activations(
                Architecture("block", "", (("Block", block),), "tests", channels=4), "Block", x
            )
            - x
        )
    np.testing.assert_allclose(added[0.34], 2 * added[0.17], atol=1e-5)


@row(33)
def what_only_the_release_has():
    released, paper, facenet = (
        dict(get_architecture(*key).layers)
        for key in (
            ("inception_resnet_v2", "released"),
            ("inception_resnet_v1", "paper"),
            ("inception_resnet_v1", "facenet"),
        )
    )
    assert released["Block8"].activation == facenet["Mixed_8b"].activation == "linear"
    assert "Conv2d_7b_1x1" in released
    assert not {"Mixed_8b", "Conv2d_7b_1x1"} & set(paper)


@row(35)
def the_first_branch_of_block_c():
    assert (
        dict(get_architecture("inception_resnet_v1").layers)["block8_1"].branch.branches[0].filters
        == 192
    )


@row(36)
def dropout_keeps_four_fifths():
    names = ("inception_v4", "inception_resnet_v1", "inception_resnet_v2")
    assert {get_architecture(name).dropout_rate for name in names} == {0.2}


@row(39)
def where_a_resnet_strides():
    for variant, strides in {"torchvision": [1, 2], "paper": [2, 1], "keras": [2, 1]}.items():
        unit = dict(get_architecture("resnet50", variant).layers)["block2_unit_1"]
        assert [word.stride[0] for word in unit.branch[:2]] == strides
    assert shape("resnet50", "torchvision", "block1_unit_3")[0] == 56
    assert shape("resnet50", "tf_slim", "block1_unit_3")[0] == 28


@row(40)
def the_stem_before_pre_activation():
    expected = {
        "paper": (False, None, "linear", True),
        "facebook": (None, None, None, False),
        "tf_slim": (False, True, "linear", True),
    }
    for variant, facts in expected.items():
        stem = words("preact_resnet50", variant, "conv1")[0]
        first = dict(get_architecture("preact_resnet50", variant).layers)["block1_unit_1"]
        assert (stem.norm, stem.bias, stem.activation, first.preactivation) == facts


@row(41)
def epsilon():
    values = {"torchvision": 1e-5, "tf_slim": 1e-5, "keras": 1.001e-5}
    assert {
        variant: get_architecture("resnet50", variant).unit.norm_epsilon for variant in values
    } == values
    x, scaled = jnp.ones((1, 1, 1, 1)), {}
    for variant, epsilon in values.items():
        table = Architecture(
            "norm",
            "",
            (("Norm", NormAct(activation="linear")),),
            "tests",
            unit=Unit(norm_epsilon=epsilon),
            channels=1,
        )
        tree = {"params": {"Norm": {"norm": {"scale": jnp.ones(1), "bias": jnp.zeros(1)}}}}
        tree["batch_stats"] = {"Norm": {"norm": {"mean": jnp.zeros(1), "var": jnp.full(1, 1e-5)}}}
        scaled[variant] = float(Network(table, num_classes=0).apply(tree, x).logits.squeeze())
    assert scaled["torchvision"] / scaled["keras"] == pytest.approx((2.001 / 2) ** 0.5, rel=1e-6)


@row(44)
def the_background_class():
    offsets = {
        (name, "tf_slim"): 1
        for name in ("googlenet", "bn_inception", "inception_v3", "inception_v4", "preact_resnet50")
    }
    offsets |= {
        ("inception_v3", "tf_2015"): 1,
        ("inception_v4", "cadene"): 1,
        ("inception_resnet_v2", "cadene"): 1,
    }
    offsets |= {
        ("resnet50", "tf_slim"): 0,
        ("inception_v3", "torchvision"): 0,
        ("inception_v3", "keras"): 0,
    }
    assert {key: get_architecture(*key).class_offset for key in offsets} == offsets
    assert measure(get_architecture("inception_v3", "tf_slim")).end_points["Logits"].shape == (
        1000,
    )


@row(45)
def what_kernels_begin_with():
    """tests/nn/test_init.py tests each distribution."""
    assert (
        len(
            {
                get_architecture("inception_v3", variant).unit.init
                for variant in ("released", "tf_slim", "tf_2015", "keras", "torchvision")
            }
        )
        == 5
    )


@row(46)
def the_running_variance():
    kept = {
        "released": "unbiased",
        "tf_slim": "unbiased",
        "torchvision": "unbiased",
        "keras": "biased",
    }
    assert {
        variant: get_architecture("inception_v3", variant).unit.running_variance for variant in kept
    } == kept
    x, variances = jax.random.normal(jax.random.key(0), (4, 3, 3, 2)), {}
    for kind in ("unbiased", "biased"):
        network = Network(
            Architecture(
                "norm", "", (("Norm", NormAct()),), "tests", unit=Unit(running_variance=kind)
            ),
            num_classes=0,
        )
        _, new = network.apply(
            network.init(jax.random.key(0), x), x, train=True, mutable=["batch_stats"]
        )
        variances[kind] = new["batch_stats"]["Norm"]["norm"]["var"] - 0.9
    np.testing.assert_allclose(variances["unbiased"] / variances["biased"], 36 / 35, rtol=1e-5)


@row(47)
def zeros_around_what_is_not_rectified():
    keras, slim = (
        words("preact_resnet50", variant, "pool1")[0] for variant in ("keras", "tf_slim")
    )
    assert (keras.pad_value, slim.pad_value) == (0.0, None)
    negative = -jnp.ones((1, 4, 4, 1))
    assert pool(negative, keras, Unit())[0, 0, 0, 0] == 0
    assert pool(negative, max_(3, 2, (1, 1)), Unit())[0, 0, 0, 0] == -1


@row(49)
def the_auxiliary_kernel_shrinks_on_small_images():
    kernels = {}
    for size in (299, 150, 75):
        rows = measure(get_architecture("inception_v3"), image_size=size).aux_rows
        kernels[size] = next(row.kernel for row in rows if row.path == "AuxLogits/conv_5x5")
    assert kernels == {299: (5, 5), 150: (1, 1), 75: (1, 1)}


@pytest.mark.parametrize("number", range(1, 50))
def test_each_row_of_the_divergence_table_passes_its_check_or_is_marked_printed(number):
    assert re.search(rf"^\| D{number} \|", PAGE, re.MULTILINE), (
        f"docs/which_inception.md has no row D{number}"
    )
    assert (number in ROWS) != (number in QUOTED), (
        f"D{number} needs either a test or an entry in QUOTED"
    )
    if number in ROWS:
        ROWS[number]()
