"""GoogLeNet: "Going deeper with convolutions" (Szegedy et al. 2014, arXiv:1409.4842), table 1 and section 5.

End points carry TF-Slim's names, a letter later than the paper's: Mixed_3b is inception (3a), Mixed_4f is (4e).
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.units import CAFFE_XAVIER, PAPER, TF_SLIM, TORCHVISION, truncated

from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, AuxHead, Concat, Conv, Dropout, Init, Linear, LocalResponse, Pair, Pool, Softmax, Steps, Table, adaptive_avg, avg,
    concat, conv, global_avg, max_, same, table,
)  # fmt: skip

BARE = replace(PAPER, norm=False, bias=True, same="symmetric")
CEIL = max_(3, 2, "ceil")


def module(one: int, three: Pair, five: Pair, projection: int, kernel: int = 5) -> Concat:
    """Figure 2(b), a row of table 1: #1x1 | 3x3 reduce, 3x3 | 5x5 reduce, 5x5 | pool projection."""
    return concat(
        same(one, 1),
        (same(three[0], 1), same(three[1], 3)),
        (same(five[0], 1), same(five[1], kernel)),
        (max_(3), same(projection, 1)),
        figure="figure 2(b)")  # fmt: skip


def naive(one: int, three: Pair, five: Pair, projection: int, kernel: int = 5) -> Concat:
    """Figure 2(a): the same without the 1x1 reductions and the projection, so that every module widens the map."""
    return concat(
        same(one, 1), same(three[1], 3), same(five[1], kernel), max_(3), figure="figure 2(a)"
    )


def stem_rows(
    first: Conv, pool: Pool, normalise: tuple[LocalResponse, ...] = (), second: Init | None = None
) -> Table:
    """224 px to 28x28x192; BN-Inception's too. `second` is the law of the 1x1."""
    return table(
        Conv2d_1a_7x7=first,
        MaxPool_2a_3x3=(pool, normalise),
        Conv2d_2b_1x1=same(64, 1, init=second),
        Conv2d_2c_3x3=same(192, 3),
        MaxPool_3a_3x3=(normalise, pool),
    )


def build_architecture(
    variant: str,
    source: str,
    *,
    stem: Conv = conv(64, 7, 2),
    halve: Pool = CEIL,
    last: Pool = CEIL,
    normalise: tuple[LocalResponse, ...] = (),
    block: Any = module,
    kernel: int = 5,
    **facts: Any,
) -> Architecture:
    """Table 1. `halve` and `last` are the pools between the stages, `normalise` what stands in the stem beside them."""
    layers = stem_rows(stem, halve, normalise) + table(
        Mixed_3b=block(64, (96, 128), (16, 32), 32, kernel),  # 3a
        Mixed_3c=block(128, (128, 192), (32, 96), 64, kernel),  # 3b
        MaxPool_4a_3x3=halve,
        Mixed_4b=block(192, (96, 208), (16, 48), 64, kernel),  # 4a
        Mixed_4c=block(160, (112, 224), (24, 64), 64, kernel),  # 4b
        Mixed_4d=block(128, (128, 256), (24, 64), 64, kernel),  # 4c
        Mixed_4e=block(112, (144, 288), (32, 64), 64, kernel),  # 4d
        Mixed_4f=block(256, (160, 320), (32, 128), 128, kernel),  # 4e
        MaxPool_5a_2x2=last,
        Mixed_5b=block(256, (160, 320), (32, 128), 128, kernel),  # 5a
        Mixed_5c=block(384, (192, 384), (48, 128), 128, kernel),  # 5b
        AvgPool_0a_7x7=global_avg(),
        Dropout_0b=Dropout(),
        Logits=Linear(),
        Predictions=Softmax(),
    )
    return Architecture("googlenet", variant, layers, source, paper="arXiv:1409.4842", **facts)


def auxiliary_heads(
    pool: Steps = avg(5, 3, "ceil", shrink=True), init: Init | None = None, bias_init: float = 0.0
) -> tuple[AuxHead, ...]:
    """Section 5: on (4a) and (4d), pool, 1x1 to 128, 1024 units, 70 % dropout, classifier."""
    hidden = Linear(1024, activation=None, init=init, bias_init=bias_init)
    head = (pool, same(128, 1), hidden, Dropout(0.7), Linear(init=init))
    return AuxHead("Aux_Mixed_4b", "Mixed_4b", head), AuxHead("Aux_Mixed_4e", "Mixed_4e", head)


def paper(
    variant: str = "paper", source: str = "arXiv:1409.4842, table 1", **changes: Any
) -> Architecture:
    facts = {
        "unit": BARE,
        "dropout_rate": 0.4,
        "normalise": (LocalResponse(),),
        "aux": auxiliary_heads(),
    }
    return build_architecture(variant, source, **{**facts, **changes})


def caffe() -> Architecture:
    """The paper's network as BVLC trained it: Caffe's weights and biases to begin with."""
    unit = replace(BARE, init=CAFFE_XAVIER, bias_init=0.2)
    return paper(
        "caffe",
        "BVLC/caffe, bvlc_googlenet/train_val.prototxt",
        unit=unit,
        aux=auxiliary_heads(bias_init=0.2),
    )


def separable() -> Architecture:
    """With the 2.7K parameters and 34M operations that table 1 prints for its first row: 7x7 depthwise, then 1x1."""
    return paper(
        "separable", "arXiv:1409.4842, table 1, row 1", stem=conv(64, 7, 2, depth_multiplier=8)
    )


def naive_modules() -> Architecture:
    """With figure 2(a) for every module: what the 1x1 reductions are there to avoid."""
    return paper("naive", "arXiv:1409.4842, figure 2(a)", block=naive)


def batch_norm() -> Architecture:
    """The paper's filters with batch norm for LRN and biases: the BN-GoogLeNet of arXiv:1512.00567, table 3."""
    return paper(
        "batch_norm",
        "arXiv:1512.00567, table 3",
        unit=replace(PAPER, same="symmetric"),
        normalise=(),
    )


def torchvision() -> Architecture:
    """Batch norm; 3x3 in the 5x5 branch (its comment calls that a known bug); 2x2 for the last pool."""
    return build_architecture(
        "torchvision", "torchvision, googlenet.py", kernel=3, last=max_(2, 2, "ceil"), dropout_rate=0.2,
        unit=replace(TORCHVISION, same="symmetric", init=Init("normal", 0.01)), aux=auxiliary_heads(adaptive_avg(4)),
    )  # fmt: skip


def tf_slim() -> Architecture:
    """Batch norm without gamma; 3x3 for 5x5, 2x2 for the last pool, TensorFlow's padding, no auxiliary heads."""
    return build_architecture(
        "tf_slim", "tensorflow/models, slim/nets/inception_v1.py", kernel=3, halve=max_(3, 2), last=max_(2, 2), dropout_rate=0.2,
        unit=replace(TF_SLIM, init=truncated(0.01), linear_init=TF_SLIM.init), class_offset=1,
    )  # fmt: skip
