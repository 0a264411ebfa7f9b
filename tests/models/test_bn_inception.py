"""BN-Inception against figure 5 of arXiv:1502.03167, read as printed."""

import pytest

from inception_jax.models import bn_inception, get_architecture
from inception_jax.spec.measure import measure
from inception_jax.spec.vocabulary import max_
from inception_jax.spec.width import widen

# end point: (grid, channels), figure 5; 3c and 4e at their stride-2 output.
FIGURE_5 = {
    "Conv2d_1a_7x7": (112, 64),
    "MaxPool_2a_3x3": (56, 64),
    "Conv2d_2c_3x3": (56, 192),
    "MaxPool_3a_3x3": (28, 192),
    "Mixed_3b": (28, 256),
    "Mixed_3c": (28, 320),
    "Mixed_4a": (14, 576),
    "Mixed_4b": (14, 576),
    "Mixed_4c": (14, 576),
    "Mixed_4d": (14, 576),
    "Mixed_4e": (14, 576),
    "Mixed_5a": (7, 1024),
    "Mixed_5b": (7, 1024),
    "Mixed_5c": (7, 1024),
}
CADENE = FIGURE_5 | {"Mixed_4d": (14, 608), "Mixed_4e": (14, 608), "Mixed_5a": (7, 1056)}


@pytest.mark.parametrize(("variant", "expected"), [("paper", FIGURE_5), ("cadene", CADENE)])
def test_bn_inception_end_points_have_the_published_shapes(variant, expected):
    places = measure(get_architecture("bn_inception", variant)).end_points
    assert {name: places[name].shape for name in expected} == {
        name: (grid, grid, depth) for name, (grid, depth) in expected.items()
    }


# Figure 5's filter columns: #1x1 | 3x3 reduce, 3x3 | double reduce, double | projection; grids of
# the small network.
ROWS = [
    (64, 64, 64, 64, 96, 32, 8, 1),
    (64, 64, 96, 64, 96, 64, 8, 1),
    (0, 128, 160, 64, 96, 0, 8, 2),
    (224, 64, 96, 96, 128, 128, 4, 1),
    (192, 96, 128, 96, 128, 128, 4, 1),
    (160, 128, 160, 128, 160, 96, 4, 1),
    (96, 128, 192, 160, 192, 96, 4, 1),
    (0, 128, 192, 192, 256, 0, 4, 2),
    (352, 192, 320, 160, 224, 128, 2, 1),
    (352, 192, 320, 192, 224, 128, 2, 1),
]


def test_bn_inception_small_equals_figure_5_at_a_quarter_of_its_width():
    weights = multiply_adds = normalised = 0

    def conv(kernel, inputs, outputs, grid):
        nonlocal weights, multiply_adds, normalised
        weights += kernel * kernel * inputs * outputs
        multiply_adds += kernel * kernel * inputs * outputs * grid * grid
        normalised += outputs
        return outputs

    depth = conv(3, 3, 16, 16)
    depth = conv(1, depth, 16, 16)
    depth = conv(3, depth, 48, 16)
    for row in ROWS:
        conv_1x1, reduce, three, double_reduce, double, projection = (
            8 * round(filters / 32) for filters in row[:6]
        )
        grid, stride = row[6:]
        branches = [conv(1, depth, conv_1x1, grid)] if conv_1x1 else []
        branches.append(conv(3, conv(1, depth, reduce, grid), three, grid // stride))
        branches.append(
            conv(
                3,
                conv(3, conv(1, depth, double_reduce, grid), double, grid),
                double,
                grid // stride,
            )
        )
        branches.append(conv(1, depth, projection, grid) if projection else depth)
        depth = sum(branches)
    measured = measure(get_architecture("bn_inception_small"))
    assert measured.parameters == weights + 2 * normalised + depth * 10 + 10
    assert measured.batch_stats == 2 * normalised
    assert measured.multiply_adds == multiply_adds + depth * 10


def test_bn_inception_small_has_the_modules_of_bn_inception_at_quarter_width():
    narrow, small = (
        dict(widen(get_architecture("bn_inception"), 0.25).layers),
        dict(get_architecture("bn_inception_small").layers),
    )
    rows = [name for name, _ in bn_inception.modules(max_(3, 2), 96)]
    assert len(rows) == 10
    assert all(small[name] == narrow[name] for name in rows)
