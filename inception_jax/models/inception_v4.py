"""Inception-v4: "Inception-v4, Inception-ResNet and the Impact of Residual Connections".

Source: arXiv:1602.07261, section 3.1.
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.inception_v3 import auxiliary_head, first_rows
from inception_jax.models.units import PAPER, PYTORCH, TF_SLIM

from inception_jax.spec.vocabulary import (  # isort: skip
    GLOROT, Architecture, Concat, Dropout, Linear, Softmax, Table, avg, concat, global_avg, max_,
    same, table, valid,
)  # fmt: skip


def stem() -> Table:
    """Returns figure 3."""
    return first_rows() + table(
        Mixed_3a=concat(max_(3, 2, "valid"), valid(96, 3, 2)),  # 73 x 73 x 160
        Mixed_4a=concat(
            (same(64, 1), valid(96, 3)),
            (same(64, 1), same(64, (1, 7)), same(64, (7, 1)), valid(96, 3)),
        ),  # 71 x 71 x 192
        Mixed_5a=concat(valid(192, 3, 2), max_(3, 2, "valid")),  # 35 x 35 x 384
    )


def block_a() -> Concat:
    """Returns figure 4, a module at 35x35."""
    return concat(
        same(96, 1),
        (same(64, 1), same(96, 3)),
        (same(64, 1), same(96, 3), same(96, 3)),
        (avg(3), same(96, 1)),
        figure="figure 4")  # fmt: skip


def reduction_a(k: int, l: int, m: int, n: int) -> Concat:  # noqa: E741
    """Returns figure 7, from 35x35 to 17x17.

    The arguments are the columns k, l, m and n of table 1, which has rows for Inception-v4 and both
    Inception-ResNets.
    """
    return concat(
        valid(n, 3, 2),
        (same(k, 1), same(l, 3), valid(m, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 7")  # fmt: skip


def block_b() -> Concat:
    """Returns figure 5, a module at 17x17."""
    return concat(
        same(384, 1),
        (same(192, 1), same(224, (1, 7)), same(256, (7, 1))),
        (same(192, 1), same(192, (7, 1)), same(224, (1, 7)), same(224, (7, 1)), same(256, (1, 7))),
        (avg(3), same(128, 1)),
        figure="figure 5")  # fmt: skip


def reduction_b() -> Concat:
    """Returns figure 8, from 17x17 to 8x8."""
    return concat(
        (same(192, 1), valid(192, 3, 2)),
        (same(256, 1), same(256, (1, 7)), same(320, (7, 1)), valid(320, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 8")  # fmt: skip


def block_c() -> Concat:
    """Returns figure 6, a module at 8x8."""
    fork = concat(same(256, (1, 3)), same(256, (3, 1)))
    return concat(
        same(256, 1),
        (same(384, 1), fork),
        (same(384, 1), same(448, (3, 1)), same(512, (1, 3)), fork),
        (avg(3), same(256, 1)),
        figure="figure 6")  # fmt: skip


def classifier() -> Table:
    """Returns the rows after the modules; the comments give the shapes of Inception-v4."""
    return table(
        global_pool=global_avg(),  # 1536
        PreLogitsFlatten=Dropout(),  # 1536
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def build_architecture(variant: str, source: str, **facts: Any) -> Architecture:
    """Builds figure 9; `facts` are other fields of `Architecture`."""
    layers = stem() + table(
        Mixed_5b=block_a(),  # 35 x 35 x 384
        Mixed_5c=block_a(),  # 35 x 35 x 384
        Mixed_5d=block_a(),  # 35 x 35 x 384
        Mixed_5e=block_a(),  # 35 x 35 x 384
        Mixed_6a=reduction_a(192, 224, 256, 384),  # 17 x 17 x 1024
        Mixed_6b=block_b(),  # 17 x 17 x 1024
        Mixed_6c=block_b(),  # 17 x 17 x 1024
        Mixed_6d=block_b(),  # 17 x 17 x 1024
        Mixed_6e=block_b(),  # 17 x 17 x 1024
        Mixed_6f=block_b(),  # 17 x 17 x 1024
        Mixed_6g=block_b(),  # 17 x 17 x 1024
        Mixed_6h=block_b(),  # 17 x 17 x 1024
        Mixed_7a=reduction_b(),  # 8 x 8 x 1536
        Mixed_7b=block_c(),  # 8 x 8 x 1536
        Mixed_7c=block_c(),  # 8 x 8 x 1536
        Mixed_7d=block_c(),  # 8 x 8 x 1536
    )
    return Architecture(
        "inception_v4", variant, layers + classifier(), source, 299, paper="arXiv:1602.07261",
        **facts,
    )  # fmt: skip


def paper() -> Architecture:
    """Builds the paper's network with TF-Slim's auxiliary head; the paper's drawings show none."""
    return build_architecture(
        "paper", "arXiv:1602.07261, figures 3 to 9", unit=PAPER, dropout_rate=0.2,
        aux=auxiliary_head("Mixed_6h"),
    )  # fmt: skip


def tf_slim() -> Architecture:
    """Builds TF-Slim's network, which has no gamma and a background class."""
    return build_architecture(
        "tf_slim", "tensorflow/models, slim/nets/inception_v4.py", dropout_rate=0.2,
        unit=replace(TF_SLIM, linear_init=GLOROT), aux=auxiliary_head("Mixed_6h"), class_offset=1,
    )  # fmt: skip


def timm() -> Architecture:
    """Builds timm's network, which has no dropout and no auxiliary head."""
    return build_architecture("timm", "timm, inception_v4.py", unit=PYTORCH)


def cadene() -> Architecture:
    """Builds the network of `timm` with the 1001 classes of Cadene's file, the background first."""
    source = "Cadene/pretrained-models.pytorch, inceptionv4.py"
    return build_architecture("cadene", source, unit=PYTORCH, class_offset=1)
