"""GoogLeNet: "Going deeper with convolutions" (arXiv:1409.4842), table 1 and section 5.

End points have TF-Slim's names, whose letter is one later than the paper's: Mixed_3b is inception
(3a), Mixed_4f is (4e).
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.units import CAFFE_XAVIER, PAPER, TF_SLIM, TORCHVISION, truncated_normal

from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, AuxHead, Concat, Conv, Dropout, Init, Linear, LocalResponse, Pair, Pool, Softmax,
    Steps, Table, adaptive_avg, avg, concat, conv, global_avg, max_, same, table,
)  # fmt: skip

BARE = replace(PAPER, norm=False, bias=True, same="symmetric")
CEIL = max_(3, 2, "ceil")


def module(
    filters_1x1: int, filters_3x3: Pair, filters_5x5: Pair, pool_projection: int, kernel: int = 5
) -> Concat:
    """Returns figure 2(b) with the filters of a row of table 1.

    Args:
      filters_1x1: Column #1x1.
      filters_3x3: Columns #3x3 reduce and #3x3.
      filters_5x5: Columns #5x5 reduce and #5x5.
      pool_projection: Column pool proj.
      kernel: Kernel of the 5x5 branch.
    """
    return concat(
        same(filters_1x1, 1),
        (same(filters_3x3[0], 1), same(filters_3x3[1], 3)),
        (same(filters_5x5[0], 1), same(filters_5x5[1], kernel)),
        (max_(3), same(pool_projection, 1)),
        figure="figure 2(b)")  # fmt: skip


def naive_module(
    filters_1x1: int, filters_3x3: Pair, filters_5x5: Pair, pool_projection: int, kernel: int = 5
) -> Concat:
    """Returns figure 2(a): the module without the 1x1 reductions and the pool projection.

    Every such module widens the map.
    """
    return concat(
        same(filters_1x1, 1),
        same(filters_3x3[1], 3),
        same(filters_5x5[1], kernel),
        max_(3),
        figure="figure 2(a)")  # fmt: skip


def stem(
    first: Conv,
    pool: Pool,
    local_response: tuple[LocalResponse, ...] = (),
    init_2b: Init | None = None,
) -> Table:
    """Returns the rows before the modules, which BN-Inception shares.

    Args:
      first: The first convolution.
      pool: The pools of stride 2.
      local_response: Local response normalisation, or nothing.
      init_2b: Initialiser of the 1x1 convolution; None for the unit's.
    """
    return table(
        Conv2d_1a_7x7=first,  # 112 x 112 x 64
        MaxPool_2a_3x3=(pool, local_response),  # 56 x 56 x 64
        Conv2d_2b_1x1=same(64, 1, init=init_2b),  # 56 x 56 x 64
        Conv2d_2c_3x3=same(192, 3),  # 56 x 56 x 192
        MaxPool_3a_3x3=(local_response, pool),  # 28 x 28 x 192
    )


def build_architecture(
    variant: str,
    source: str,
    *,
    first_conv: Conv = conv(64, 7, 2),
    downsample_pool: Pool = CEIL,
    final_pool: Pool = CEIL,
    local_response: tuple[LocalResponse, ...] = (),
    block: Any = module,
    kernel: int = 5,
    **facts: Any,
) -> Architecture:
    """Builds table 1.

    Args:
      variant: Name of the variant.
      source: The release that the numbers come from.
      first_conv: The first convolution.
      downsample_pool: The pools of stride 2 but the last.
      final_pool: The last pool of stride 2.
      local_response: Local response normalisation in the stem, or nothing.
      block: `module` or `naive_module`.
      kernel: Kernel of the 5x5 branches.
      **facts: Other fields of `Architecture`.
    """
    layers = stem(first_conv, downsample_pool, local_response) + table(
        Mixed_3b=block(64, (96, 128), (16, 32), 32, kernel),  # (3a) 28 x 28 x 256
        Mixed_3c=block(128, (128, 192), (32, 96), 64, kernel),  # (3b) 28 x 28 x 480
        MaxPool_4a_3x3=downsample_pool,  # 14 x 14 x 480
        Mixed_4b=block(192, (96, 208), (16, 48), 64, kernel),  # (4a) 14 x 14 x 512
        Mixed_4c=block(160, (112, 224), (24, 64), 64, kernel),  # (4b) 14 x 14 x 512
        Mixed_4d=block(128, (128, 256), (24, 64), 64, kernel),  # (4c) 14 x 14 x 512
        Mixed_4e=block(112, (144, 288), (32, 64), 64, kernel),  # (4d) 14 x 14 x 528
        Mixed_4f=block(256, (160, 320), (32, 128), 128, kernel),  # (4e) 14 x 14 x 832
        MaxPool_5a_2x2=final_pool,  # 7 x 7 x 832
        Mixed_5b=block(256, (160, 320), (32, 128), 128, kernel),  # (5a) 7 x 7 x 832
        Mixed_5c=block(384, (192, 384), (48, 128), 128, kernel),  # (5b) 7 x 7 x 1024
        AvgPool_0a_7x7=global_avg(),  # 1024
        Dropout_0b=Dropout(),  # 1024
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )
    return Architecture("googlenet", variant, layers, source, paper="arXiv:1409.4842", **facts)


def auxiliary_heads(
    pool: Steps = avg(5, 3, "ceil", shrink=True), init: Init | None = None, bias_init: float = 0.0
) -> tuple[AuxHead, ...]:
    """Returns the two heads of section 5, on (4a) and (4d).

    Each has a pool, a 1x1 convolution to 128, 1024 units, 70 % dropout and a classifier.
    """
    hidden = Linear(1024, activation=None, init=init, bias_init=bias_init)
    head = (pool, same(128, 1), hidden, Dropout(0.7), Linear(init=init))
    return AuxHead("Aux_Mixed_4b", "Mixed_4b", head), AuxHead("Aux_Mixed_4e", "Mixed_4e", head)


def paper(
    variant: str = "paper", source: str = "arXiv:1409.4842, table 1", **changes: Any
) -> Architecture:
    """Builds the paper's network; `changes` are arguments of `build_architecture`."""
    facts = {
        "unit": BARE,
        "dropout_rate": 0.4,
        "local_response": (LocalResponse(),),
        "aux": auxiliary_heads(),
    }
    return build_architecture(variant, source, **{**facts, **changes})


def caffe() -> Architecture:
    """Builds the paper's network with the initial weights and biases of BVLC's Caffe release."""
    unit = replace(BARE, init=CAFFE_XAVIER, bias_init=0.2)
    source = "BVLC/caffe, bvlc_googlenet/train_val.prototxt"
    return paper("caffe", source, unit=unit, aux=auxiliary_heads(bias_init=0.2))


def separable() -> Architecture:
    """Builds the paper's network with a separable first convolution: 7x7 depthwise, then 1x1.

    It has the 2.7K parameters and 34M operations that table 1 prints for its first row.
    """
    first_conv = conv(64, 7, 2, depth_multiplier=8)
    return paper("separable", "arXiv:1409.4842, table 1, row 1", first_conv=first_conv)


def naive() -> Architecture:
    """Builds the network with figure 2(a) for every module, whose cost the 1x1 reductions avoid."""
    return paper("naive", "arXiv:1409.4842, figure 2(a)", block=naive_module)


def batch_norm() -> Architecture:
    """Builds BN-GoogLeNet of arXiv:1512.00567, table 3.

    It has the paper's filters, and batch norm instead of local response normalisation and biases.
    """
    unit = replace(PAPER, same="symmetric")
    return paper("batch_norm", "arXiv:1512.00567, table 3", unit=unit, local_response=())


def torchvision() -> Architecture:
    """Builds torchvision's network.

    It has batch norm, 3x3 in the 5x5 branch (its comment calls that a known bug) and 2x2 for the
    last pool.
    """
    return build_architecture(
        "torchvision", "torchvision, googlenet.py", kernel=3, final_pool=max_(2, 2, "ceil"),
        unit=replace(TORCHVISION, same="symmetric", init=Init("normal", 0.01)), dropout_rate=0.2,
        aux=auxiliary_heads(adaptive_avg(4)),
    )  # fmt: skip


def tf_slim() -> Architecture:
    """Builds TF-Slim's network.

    It has batch norm without gamma, 3x3 for 5x5, 2x2 for the last pool, TensorFlow's padding and no
    auxiliary heads.
    """
    return build_architecture(
        "tf_slim", "tensorflow/models, slim/nets/inception_v1.py", kernel=3,
        downsample_pool=max_(3, 2), final_pool=max_(2, 2), dropout_rate=0.2, class_offset=1,
        unit=replace(TF_SLIM, init=truncated_normal(0.01), linear_init=TF_SLIM.init),
    )  # fmt: skip
