"""BN-Inception: the network of "Batch Normalization" (Ioffe & Szegedy 2015, arXiv:1502.03167), figure 5.

GoogLeNet with batch normalisation before every ReLU, each 5x5 as two 3x3, three modules at 28x28, average and max
pooling inside the modules, and stride 2 inside modules 3c and 4e instead of pools between them. End points carry
TF-Slim's names; the paper's stand beside them.
"""

from dataclasses import replace
from typing import Any

from inception_jax.models import googlenet
from inception_jax.models.units import PAPER, PYTORCH, TF_SLIM, truncated

from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, Concat, Conv, Dropout, Init, Linear, LocalResponse, Pair, Pool, Softmax, Table, avg, concat, conv, global_avg, max_,
    same, table,
)  # fmt: skip
from inception_jax.spec.width import widen


def module(
    one: int,
    three: Pair,
    double: Pair,
    pool: Pool,
    projection: int,
    narrow: Init | None = None,
    last: Init | None = None,
) -> Concat:
    """A row of figure 5: #1x1 | 3x3 reduce, 3x3 | double 3x3 reduce, double 3x3 | pool, projection.

    `narrow` and `last` are the laws of the reductions and of the projection, where they have their own.
    """
    return concat(
        same(one, 1),
        (same(three[0], 1, init=narrow), same(three[1], 3)),
        (same(double[0], 1, init=narrow), same(double[1], 3), same(double[1], 3)),
        (pool, same(projection, 1, init=last)),
        figure="figure 5")  # fmt: skip


def reduction(three: Pair, double: Pair, pool: Pool, narrow: Init | None = None) -> Concat:
    """A row of figure 5 with stride 2: the last 3x3 of each branch halves the grid, the pool passes its input through."""
    return concat(
        (same(three[0], 1, init=narrow), same(three[1], 3, 2)),
        (same(double[0], 1, init=narrow), same(double[1], 3), same(double[1], 3, 2)),
        pool,
        figure="figure 5")  # fmt: skip


def modules(
    pool: Pool, projection_4cd: int, narrow: Init | None = None, last: Init | None = None
) -> Table:
    """Rows 3a to 5b of figure 5. `pool` is the one that halves the grid."""
    laws = narrow, last
    return table(
        Mixed_3b=module(64, (64, 64), (64, 96), avg(3), 32, *laws),  # 3a
        Mixed_3c=module(64, (64, 96), (64, 96), avg(3), 64, *laws),  # 3b
        Mixed_4a=reduction((128, 160), (64, 96), pool, narrow),  # 3c
        Mixed_4b=module(224, (64, 96), (96, 128), avg(3), 128, *laws),  # 4a
        Mixed_4c=module(192, (96, 128), (96, 128), avg(3), 128, *laws),  # 4b
        Mixed_4d=module(160, (128, 160), (128, 160), avg(3), projection_4cd, *laws),  # 4c
        Mixed_4e=module(96, (128, 192), (160, 192), avg(3), projection_4cd, *laws),  # 4d
        Mixed_5a=reduction((128, 192), (192, 256), pool, narrow),  # 4e
        Mixed_5b=module(352, (192, 320), (160, 224), avg(3), 128, *laws),  # 5a
        Mixed_5c=module(352, (192, 320), (192, 224), max_(3), 128, *laws),  # 5b
    )


def classifier() -> Table:
    return table(AvgPool_1a=global_avg(), Dropout=Dropout(), Logits=Linear(), Predictions=Softmax())


def build_architecture(
    name: str,
    variant: str,
    source: str,
    *,
    stem: Conv = conv(64, 7, 2),
    pool: Pool = max_(3, 2),
    normalise: tuple[LocalResponse, ...] = (),
    projection_4cd: int = 96,
    second: Init | None = None,
    laws: tuple[Init, ...] = (),
    **facts: Any,
) -> Architecture:
    """Figure 5. The auxiliary heads are GoogLeNet's; the paper does not list its own."""
    first = googlenet.stem_rows(stem, pool, normalise, second)
    layers = first + modules(pool, projection_4cd, *laws) + classifier()
    facts = {"aux": googlenet.auxiliary_heads(), "paper": "arXiv:1502.03167", **facts}
    return Architecture(name, variant, layers, source, 224, **facts)


def paper() -> Architecture:
    """576 channels after 4c and 4d, as all output sizes printed in figure 5 say (its projection column would give 608)."""
    return build_architecture("bn_inception", "paper", "arXiv:1502.03167, figure 5", unit=PAPER)


def printed() -> Architecture:
    """Figure 5's projection column and the appendix's separable stem, to the letter: 608 channels after 4c and 4d."""
    stem = conv(64, 7, 2, depth_multiplier=8)
    return build_architecture(
        "bn_inception",
        "printed",
        "arXiv:1502.03167, figure 5 and appendix",
        unit=PAPER,
        stem=stem,
        projection_4cd=128,
    )


def tf_slim() -> Architecture:
    """A separable stem with bias and without norm, which the scope of the release does not reach; no auxiliary heads."""
    return build_architecture(
        "bn_inception", "tf_slim", "tensorflow/models, slim/nets/inception_v2.py", unit=TF_SLIM, dropout_rate=0.2, class_offset=1, aux=(),
        stem=conv(64, 7, 2, depth_multiplier=8, norm=False, bias=True, init=truncated(1.0)),
        second=truncated(0.1), laws=(truncated(0.09), truncated(0.1)),
    )  # fmt: skip


def cadene() -> Architecture:
    """The Caffe geometry and 608 channels of the weights in Cadene's pretrained-models.pytorch."""
    unit = replace(PYTORCH, bias=True, norm_epsilon=1e-5, same="symmetric", count_include_pad=True)
    source = "Cadene/pretrained-models.pytorch, bninception.py"
    return build_architecture(
        "bn_inception",
        "cadene",
        source,
        unit=unit,
        pool=max_(3, 2, "ceil"),
        projection_4cd=128,
        aux=(),
    )


# The five networks of section 4.2.1. Each is trained with a recipe of its own; x5 and x30 differ in that alone.


def inception() -> Architecture:
    """Without batch norm; with local response normalisation and 40 % dropout."""
    unit = replace(PAPER, norm=False, bias=True)
    return build_architecture(
        "inception",
        "paper",
        "arXiv:1502.03167, section 4.2.1",
        unit=unit,
        normalise=(LocalResponse(),),
        dropout_rate=0.4,
    )


def bn_baseline() -> Architecture:
    """`inception` with batch norm before each nonlinearity, and nothing else changed."""
    return build_architecture(
        "bn_baseline",
        "paper",
        "arXiv:1502.03167, section 4.2.1",
        unit=PAPER,
        normalise=(LocalResponse(),),
        dropout_rate=0.4,
    )


def bn_x5() -> Architecture:
    """Without local response normalisation and dropout."""
    return build_architecture("bn_x5", "paper", "arXiv:1502.03167, section 4.2.1", unit=PAPER)


def bn_x30() -> Architecture:
    return replace(bn_x5(), name="bn_x30")


def bn_x5_sigmoid() -> Architecture:
    return replace(bn_x5(), name="bn_x5_sigmoid", unit=replace(PAPER, activation="sigmoid"))


def small_32px() -> Architecture:
    """For images of 32 pixels: all ten modules at a quarter of their width, on grids of 8, 4 and 2."""
    stem = table(
        Conv2d_1a_3x3=same(64, 3, 2),
        Conv2d_2b_1x1=same(64, 1),
        Conv2d_2c_3x3=same(192, 3),
        MaxPool_3a_3x3=max_(3, 2),
    )
    layers = stem + modules(max_(3, 2), 96) + classifier()
    source = "arXiv:1502.03167, figure 5, with a stem for small images"
    heads = googlenet.auxiliary_heads(avg(2, 2, "valid", shrink=True))
    return widen(
        Architecture(
            "bn_inception_small",
            "paper",
            layers,
            source,
            32,
            aux=heads,
            num_classes=10,
            paper="arXiv:1502.03167",
        ),
        0.25,
    )
