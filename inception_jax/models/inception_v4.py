"""Inception-v4: "Inception-v4, Inception-ResNet and the Impact of Residual Connections" (arXiv:1602.07261), section 3.1."""

from dataclasses import replace
from typing import Any

from inception_jax.models.inception_v3 import auxiliary_head, first_rows
from inception_jax.models.units import PAPER, PYTORCH, TF_SLIM

from inception_jax.spec.vocabulary import (  # isort: skip
    GLOROT, Architecture, Concat, Dropout, Linear, Softmax, Table, avg, concat, global_avg, max_, same, table, valid,
)  # fmt: skip


def stem() -> Table:
    """Figure 3: 299 px to 35x35x384."""
    return first_rows() + table(
        Mixed_3a=concat(max_(3, 2, "valid"), valid(96, 3, 2)),
        Mixed_4a=concat(
            (same(64, 1), valid(96, 3)),
            (same(64, 1), same(64, (1, 7)), same(64, (7, 1)), valid(96, 3)),
        ),
        Mixed_5a=concat(valid(192, 3, 2), max_(3, 2, "valid")),
    )


def block_a() -> Concat:
    """Figure 4."""
    return concat(
        same(96, 1),
        (same(64, 1), same(96, 3)),
        (same(64, 1), same(96, 3), same(96, 3)),
        (avg(3), same(96, 1)),
        figure="figure 4")  # fmt: skip


def reduction_a(k: int, l: int, m: int, n: int) -> Concat:  # noqa: E741
    """Figure 7, from 35x35 to 17x17; k, l, m and n are table 1's, for Inception-v4 and both Inception-ResNets."""
    return concat(
        valid(n, 3, 2),
        (same(k, 1), same(l, 3), valid(m, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 7",
    )


def block_b() -> Concat:
    """Figure 5."""
    return concat(
        same(384, 1),
        (same(192, 1), same(224, (1, 7)), same(256, (7, 1))),
        (same(192, 1), same(192, (7, 1)), same(224, (1, 7)), same(224, (7, 1)), same(256, (1, 7))),
        (avg(3), same(128, 1)),
        figure="figure 5")  # fmt: skip


def reduction_b() -> Concat:
    """Figure 8, from 17x17 to 8x8."""
    return concat(
        (same(192, 1), valid(192, 3, 2)),
        (same(256, 1), same(256, (1, 7)), same(320, (7, 1)), valid(320, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 8")  # fmt: skip


def block_c() -> Concat:
    """Figure 6."""
    fork = concat(same(256, (1, 3)), same(256, (3, 1)))
    return concat(
        same(256, 1),
        (same(384, 1), fork),
        (same(384, 1), same(448, (3, 1)), same(512, (1, 3)), fork),
        (avg(3), same(256, 1)),
        figure="figure 6")  # fmt: skip


def classifier() -> Table:
    return table(
        global_pool=global_avg(), PreLogitsFlatten=Dropout(), Logits=Linear(), Predictions=Softmax()
    )


def build_architecture(variant: str, source: str, **facts: Any) -> Architecture:
    layers = stem()
    layers += tuple((f"Mixed_5{letter}", block_a()) for letter in "bcde")
    layers += table(Mixed_6a=reduction_a(192, 224, 256, 384))
    layers += tuple((f"Mixed_6{letter}", block_b()) for letter in "bcdefgh")
    layers += table(Mixed_7a=reduction_b())
    layers += tuple((f"Mixed_7{letter}", block_c()) for letter in "bcd")
    return Architecture(
        "inception_v4",
        variant,
        layers + classifier(),
        source,
        299,
        paper="arXiv:1602.07261",
        **facts,
    )


def paper() -> Architecture:
    """With the auxiliary head of TF-Slim; the paper's drawings show none."""
    return build_architecture(
        "paper",
        "arXiv:1602.07261, figures 3 to 9",
        unit=PAPER,
        dropout_rate=0.2,
        aux=auxiliary_head("Mixed_6h"),
    )


def tf_slim() -> Architecture:
    unit = replace(TF_SLIM, linear_init=GLOROT)
    source = "tensorflow/models, slim/nets/inception_v4.py"
    return build_architecture(
        "tf_slim",
        source,
        unit=unit,
        dropout_rate=0.2,
        aux=auxiliary_head("Mixed_6h"),
        class_offset=1,
    )


def timm() -> Architecture:
    return build_architecture("timm", "timm, inception_v4.py", unit=PYTORCH)


def cadene() -> Architecture:
    """As `timm`; its file holds 1001 classes, the background first."""
    return build_architecture(
        "cadene", "Cadene/pretrained-models.pytorch, inceptionv4.py", unit=PYTORCH, class_offset=1
    )
