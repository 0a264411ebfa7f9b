"""GoogLeNet against table 1 of arXiv:1409.4842, and the naive module of its figure 2(a)."""

from inception_jax.models import get_architecture
from inception_jax.spec.measure import measure

# #1x1, #3x3, #5x5 of table 1 and the grid of each module
WIDTHS = [
    (64, 128, 32, 28), (128, 192, 96, 28),
    (192, 208, 48, 14), (160, 224, 64, 14), (128, 256, 64, 14), (112, 288, 64, 14),
    (256, 320, 128, 14),
    (256, 320, 128, 7), (384, 384, 128, 7),
]  # fmt: skip


def test_each_module_of_naive_googlenet_adds_its_filters_to_its_input_channels():
    weights, biases, multiply_adds, depth = (
        9_408 + 64 * 64 + 9 * 64 * 192,
        64 + 64 + 192,
        118_013_952 + 12_845_056 + 346_816_512,
        192,
    )
    at_aux = []
    for conv_1x1, conv_3x3, conv_5x5, grid in WIDTHS:
        kernels = depth * (conv_1x1 + 9 * conv_3x3 + 25 * conv_5x5)
        weights, biases, multiply_adds = (
            weights + kernels,
            biases + conv_1x1 + conv_3x3 + conv_5x5,
            multiply_adds + kernels * grid * grid,
        )
        depth += conv_1x1 + conv_3x3 + conv_5x5
        at_aux.append(depth)
    measured = measure(get_architecture("googlenet", "naive"))
    assert measured.end_points["Mixed_5c"].shape == (7, 7, depth)
    assert measured.parameters == weights + biases + depth * 1000 + 1000
    assert measured.multiply_adds == multiply_adds + depth * 1000
    heads = [at_aux[2], at_aux[5]]  # (4a) and (4d)
    assert measured.aux_parameters == sum(
        channels * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for channels in heads
    )


# Table 1's own columns, in units of 1024 weights and of a million multiply-adds, for the rows whose
# columns agree with their filters.
PRINTED = {
    "Mixed_3b": (159, 128),
    "Mixed_3c": (380, 304),
    "Mixed_4c": (437, 88),
    "Mixed_4f": (840, 170),
}


def test_googlenet_modules_match_the_correct_rows_of_table_1():
    rows = measure(get_architecture("googlenet")).rows
    for name, (thousands, millions) in PRINTED.items():
        module = [row for row in rows if row.path.startswith(f"{name}/")]
        weights = sum(row.parameters - row.output.shape[-1] for row in module if row.kind == "conv")
        assert abs(weights / 1024 - thousands) < 8
        assert round(sum(row.multiply_adds for row in module) / 1e6) == millions
