"""BN-Inception: the network of "Batch Normalization" (Ioffe & Szegedy 2015, arXiv:1502.03167), figure 5.

GoogLeNet with batch normalisation before every ReLU, each 5x5 as two 3x3, three modules at 28x28, average and max
pooling inside the modules, and stride 2 inside modules 3c and 4e instead of pools between them. End points carry
TF-Slim's names; the paper's stand beside them.
"""

from inception_jax.spec.vocabulary import (
    Architecture,
    AuxHead,
    Concat,
    Dropout,
    Linear,
    Pair,
    Pool,
    Table,
    Unit,
    avg,
    concat,
    conv,
    global_avg,
    max_,
    same,
    table,
)
from inception_jax.spec.width import widen


def module(one: int, three: Pair, double: Pair, pool: Pool, projection: int) -> Concat:
    """A row of figure 5: #1x1 | 3x3 reduce, 3x3 | double 3x3 reduce, double 3x3 | pool, projection."""
    return concat(
        same(one, 1),
        (same(three[0], 1), same(three[1], 3)),
        (same(double[0], 1), same(double[1], 3), same(double[1], 3)),
        (pool, same(projection, 1)))  # fmt: skip


def reduction(three: Pair, double: Pair, pool: Pool) -> Concat:
    """A row of figure 5 with stride 2: the last 3x3 of each branch halves the grid, the pool passes its input through."""
    return concat(
        (same(three[0], 1), same(three[1], 3, 2)),
        (same(double[0], 1), same(double[1], 3), same(double[1], 3, 2)),
        pool)  # fmt: skip


def modules(pool: Pool, projection_4cd: int) -> Table:
    """Rows 3a to 5b of figure 5. `pool` is the one that halves the grid."""
    return table(
        Mixed_3b=module(64, (64, 64), (64, 96), avg(3), 32),  # 3a
        Mixed_3c=module(64, (64, 96), (64, 96), avg(3), 64),  # 3b
        Mixed_4a=reduction((128, 160), (64, 96), pool),  # 3c
        Mixed_4b=module(224, (64, 96), (96, 128), avg(3), 128),  # 4a
        Mixed_4c=module(192, (96, 128), (96, 128), avg(3), 128),  # 4b
        Mixed_4d=module(160, (128, 160), (128, 160), avg(3), projection_4cd),  # 4c
        Mixed_4e=module(96, (128, 192), (160, 192), avg(3), projection_4cd),  # 4d
        Mixed_5a=reduction((128, 192), (192, 256), pool),  # 4e
        Mixed_5b=module(352, (192, 320), (160, 224), avg(3), 128),  # 5a
        Mixed_5c=module(352, (192, 320), (192, 224), max_(3), 128),  # 5b
    )


def classifier() -> Table:
    return table(AvgPool_1a=global_avg(), Dropout=Dropout(), Logits=Linear())


def auxiliary_heads(pool: Pool) -> tuple[AuxHead, ...]:
    """GoogLeNet's two (arXiv:1409.4842, section 5), on the same modules; the BN paper does not list its own."""
    head = (pool, same(128, 1), Linear(1024, activation="relu"), Dropout(0.7), Linear())
    return AuxHead("Aux_Mixed_4b", "Mixed_4b", head), AuxHead("Aux_Mixed_4e", "Mixed_4e", head)


def full(variant: str, source: str, pool: Pool, projection_4cd: int, unit: Unit) -> Architecture:
    stem = table(
        Conv2d_1a_7x7=conv(64, 7, 2),
        MaxPool_2a_3x3=pool,
        Conv2d_2b_1x1=same(64, 1),
        Conv2d_2c_3x3=same(192, 3),
        MaxPool_3a_3x3=pool,
    )
    layers = stem + modules(pool, projection_4cd) + classifier()
    return Architecture("bn_inception", variant, layers, source, 224, unit, aux=auxiliary_heads(avg(5, 3, "valid")))


def paper() -> Architecture:
    """576 channels after 4c and 4d, as all output sizes printed in figure 5 say (its projection column would give 608)."""
    return full("paper", "arXiv:1502.03167, figure 5", max_(3, 2), 96, Unit())


def cadene() -> Architecture:
    """The Caffe geometry and 608 channels of the weights in Cadene's pretrained-models.pytorch."""
    unit = Unit(bias=True, norm_epsilon=1e-5, same="symmetric", count_include_pad=True)
    return full("cadene", "Cadene/pretrained-models.pytorch, bninception.py", max_(3, 2, "ceil"), 128, unit)


def small() -> Architecture:
    """For images of 32 pixels: all ten modules at a quarter of their width, on grids of 8, 4 and 2."""
    stem = table(Conv2d_1a_3x3=same(64, 3, 2), Conv2d_2b_1x1=same(64, 1), Conv2d_2c_3x3=same(192, 3), MaxPool_3a_3x3=max_(3, 2))
    layers = stem + modules(max_(3, 2), 96) + classifier()
    source = "arXiv:1502.03167, figure 5, with a stem for small images"
    heads = auxiliary_heads(avg(2, 2, "valid"))
    return widen(Architecture("bn_inception_small", "paper", layers, source, 32, aux=heads), 0.25)
