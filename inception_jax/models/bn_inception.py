"""BN-Inception: "Batch Normalization" (Ioffe & Szegedy 2015, arXiv:1502.03167), figure 5.

The network is GoogLeNet with batch normalisation before every ReLU, two 3x3 for each 5x5, three
modules at 28x28, average and max pooling inside the modules, and stride 2 inside modules 3c and 4e
instead of pools between them. End points have TF-Slim's names; comments give the paper's.
"""

from dataclasses import replace
from typing import Any

from inception_jax.models import googlenet
from inception_jax.models.units import PAPER, PYTORCH, TF_SLIM, truncated_normal

from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, Concat, Conv, Dropout, Init, Linear, LocalResponse, Pair, Pool, Softmax, Table,
    avg, concat, conv, global_avg, max_, same, table,
)  # fmt: skip
from inception_jax.spec.width import widen


def module(
    filters_1x1: int,
    filters_3x3: Pair,
    filters_double: Pair,
    pool: Pool,
    projection: int,
    reduction_init: Init | None = None,
    projection_init: Init | None = None,
) -> Concat:
    """Returns a module with the filters of a row of figure 5.

    Args:
      filters_1x1: Column #1x1.
      filters_3x3: Columns #3x3 reduce and #3x3.
      filters_double: Columns double #3x3 reduce and double #3x3.
      pool: The pool of column Pool + proj.
      projection: The projection of column Pool + proj.
      reduction_init: Initialiser of the reductions; None for the unit's.
      projection_init: Initialiser of the projection; None for the unit's.
    """
    return concat(
        same(filters_1x1, 1),
        (same(filters_3x3[0], 1, init=reduction_init), same(filters_3x3[1], 3)),
        (same(filters_double[0], 1, init=reduction_init), same(filters_double[1], 3),
         same(filters_double[1], 3)),
        (pool, same(projection, 1, init=projection_init)),
        figure="figure 5")  # fmt: skip


def reduction(
    filters_3x3: Pair, filters_double: Pair, pool: Pool, reduction_init: Init | None = None
) -> Concat:
    """Returns a module of stride 2 with the filters of a row of figure 5.

    The last 3x3 of each branch has stride 2, and the pool has no projection.
    """
    return concat(
        (same(filters_3x3[0], 1, init=reduction_init), same(filters_3x3[1], 3, 2)),
        (same(filters_double[0], 1, init=reduction_init), same(filters_double[1], 3),
         same(filters_double[1], 3, 2)),
        pool,
        figure="figure 5")  # fmt: skip


def modules(
    downsample_pool: Pool,
    projection_4cd: int,
    reduction_init: Init | None = None,
    projection_init: Init | None = None,
) -> Table:
    """Returns rows 3a to 5b of figure 5.

    Args:
      downsample_pool: The pool of stride 2.
      projection_4cd: The projection of modules 4c and 4d.
      reduction_init: Initialiser of the reductions; None for the unit's.
      projection_init: Initialiser of the projections; None for the unit's.
    """
    inits = reduction_init, projection_init
    pool, proj = downsample_pool, projection_4cd
    return table(
        Mixed_3b=module(64, (64, 64), (64, 96), avg(3), 32, *inits),  # 3a, 28 x 28 x 256
        Mixed_3c=module(64, (64, 96), (64, 96), avg(3), 64, *inits),  # 3b, 28 x 28 x 320
        Mixed_4a=reduction((128, 160), (64, 96), pool, reduction_init),  # 3c, 14 x 14 x 576
        Mixed_4b=module(224, (64, 96), (96, 128), avg(3), 128, *inits),  # 4a, 14 x 14 x 576
        Mixed_4c=module(192, (96, 128), (96, 128), avg(3), 128, *inits),  # 4b, 14 x 14 x 576
        Mixed_4d=module(160, (128, 160), (128, 160), avg(3), proj, *inits),  # 4c, 14 x 14 x 576
        Mixed_4e=module(96, (128, 192), (160, 192), avg(3), proj, *inits),  # 4d, 14 x 14 x 576
        Mixed_5a=reduction((128, 192), (192, 256), pool, reduction_init),  # 4e, 7 x 7 x 1024
        Mixed_5b=module(352, (192, 320), (160, 224), avg(3), 128, *inits),  # 5a, 7 x 7 x 1024
        Mixed_5c=module(352, (192, 320), (192, 224), max_(3), 128, *inits),  # 5b, 7 x 7 x 1024
    )


def classifier() -> Table:
    """Returns the rows after the modules."""
    return table(
        AvgPool_1a=global_avg(),  # 1024
        Dropout=Dropout(),  # 1024
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def build_architecture(
    name: str,
    variant: str,
    source: str,
    *,
    first_conv: Conv = conv(64, 7, 2),
    downsample_pool: Pool = max_(3, 2),
    local_response: tuple[LocalResponse, ...] = (),
    projection_4cd: int = 96,
    init_2b: Init | None = None,
    initializers: tuple[Init, ...] = (),
    **facts: Any,
) -> Architecture:
    """Builds figure 5. The paper lists no auxiliary heads of its own, so they are GoogLeNet's.

    Args:
      name: Name of the network.
      variant: Name of the variant.
      source: Section of the paper, or the release that the numbers come from.
      first_conv: The first convolution.
      downsample_pool: The pools of stride 2.
      local_response: Local response normalisation in the stem, or nothing.
      projection_4cd: The pool projection of modules 4c and 4d.
      init_2b: Initialiser of the 1x1 convolution of the stem; None for the unit's.
      initializers: Initialisers of the reductions and the pool projections of the modules.
      **facts: Other fields of `Architecture`.
    """
    stem = googlenet.stem(first_conv, downsample_pool, local_response, init_2b)
    layers = stem + modules(downsample_pool, projection_4cd, *initializers) + classifier()
    facts = {"aux": googlenet.auxiliary_heads(), "paper": "arXiv:1502.03167", **facts}
    return Architecture(name, variant, layers, source, 224, **facts)


def paper() -> Architecture:
    """Builds the network with 576 channels after 4c and 4d, as all output sizes of figure 5 print.

    The figure's projection column would give 608 channels.
    """
    return build_architecture("bn_inception", "paper", "arXiv:1502.03167, figure 5", unit=PAPER)


def printed() -> Architecture:
    """Builds figure 5's projection column and the appendix's separable stem as printed.

    There are 608 channels after 4c and 4d.
    """
    return build_architecture(
        "bn_inception", "printed", "arXiv:1502.03167, figure 5 and appendix", unit=PAPER,
        first_conv=conv(64, 7, 2, depth_multiplier=8), projection_4cd=128,
    )  # fmt: skip


def tf_slim() -> Architecture:
    """Builds TF-Slim's network, which has no auxiliary heads.

    Its stem is separable, with bias and without norm: the scope of the release does not cover it.
    """
    first_conv = conv(
        64, 7, 2, depth_multiplier=8, norm=False, bias=True, init=truncated_normal(1.0)
    )
    return build_architecture(
        "bn_inception", "tf_slim", "tensorflow/models, slim/nets/inception_v2.py", unit=TF_SLIM,
        dropout_rate=0.2, class_offset=1, aux=(), first_conv=first_conv,
        init_2b=truncated_normal(0.1), initializers=(truncated_normal(0.09), truncated_normal(0.1)),
    )  # fmt: skip


def cadene() -> Architecture:
    """Builds the Caffe geometry and 608 channels of Cadene's pretrained-models.pytorch."""
    unit = replace(PYTORCH, bias=True, norm_epsilon=1e-5, same="symmetric", count_include_pad=True)
    return build_architecture(
        "bn_inception", "cadene", "Cadene/pretrained-models.pytorch, bninception.py", unit=unit,
        downsample_pool=max_(3, 2, "ceil"), projection_4cd=128, aux=(),
    )  # fmt: skip


# The five networks of section 4.2.1. Each has its own training recipe, the only difference between
# x5 and x30.


def inception() -> Architecture:
    """Builds the network without batch norm, with local response normalisation and 40 % dropout."""
    return build_architecture(
        "inception", "paper", "arXiv:1502.03167, section 4.2.1", dropout_rate=0.4,
        unit=replace(PAPER, norm=False, bias=True), local_response=(LocalResponse(),),
    )  # fmt: skip


def bn_baseline() -> Architecture:
    """Builds `inception` with batch norm before each nonlinearity and no other change."""
    return build_architecture(
        "bn_baseline", "paper", "arXiv:1502.03167, section 4.2.1", dropout_rate=0.4,
        unit=PAPER, local_response=(LocalResponse(),),
    )  # fmt: skip


def bn_x5() -> Architecture:
    """Builds the network without local response normalisation and dropout."""
    return build_architecture("bn_x5", "paper", "arXiv:1502.03167, section 4.2.1", unit=PAPER)


def bn_x30() -> Architecture:
    """Builds the network of `bn_x5`, whose recipe differs."""
    return replace(bn_x5(), name="bn_x30")


def bn_x5_sigmoid() -> Architecture:
    """Builds the network of `bn_x5` with sigmoids instead of ReLUs."""
    return replace(bn_x5(), name="bn_x5_sigmoid", unit=replace(PAPER, activation="sigmoid"))


def small_stem() -> Table:
    """Returns a stem for images of 32 pixels; the comments give a quarter of the filters."""
    return table(
        Conv2d_1a_3x3=same(64, 3, 2),  # 16 x 16 x 16
        Conv2d_2b_1x1=same(64, 1),  # 16 x 16 x 16
        Conv2d_2c_3x3=same(192, 3),  # 16 x 16 x 48
        MaxPool_3a_3x3=max_(3, 2),  # 8 x 8 x 48
    )


def small_32px() -> Architecture:
    """Builds a network for images of 32 pixels.

    It has all ten modules at a quarter of their width, on grids of 8, 4 and 2.
    """
    network = Architecture(
        "bn_inception_small", "paper", small_stem() + modules(max_(3, 2), 96) + classifier(),
        "arXiv:1502.03167, figure 5, with a stem for small images", 32, num_classes=10,
        aux=googlenet.auxiliary_heads(avg(2, 2, "valid", shrink=True)), paper="arXiv:1502.03167",
    )  # fmt: skip
    return widen(network, 0.25)
