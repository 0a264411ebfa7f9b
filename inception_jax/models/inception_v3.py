"""Inception-v3: "Rethinking the Inception Architecture" (Szegedy et al. 2015, arXiv:1512.00567), as it was released.

The paper's own network, table 1, is `inception_v2_rethinking`, from the same modules.
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.units import KERAS, PAPER, PYTORCH, TF_SLIM, TORCHVISION, truncated

from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, AuxHead, Concat, Dropout, Init, Linear, Pool, Softmax, Steps, Table, avg, concat, global_avg, max_, same, table,
    valid,
)  # fmt: skip

RELEASED, FIGURE_5 = (same(48, 1), same(64, 5)), (same(48, 1), same(64, 3))


def mixed_35(projection: int, large: Steps = RELEASED) -> Concat:
    """Figure 5 where `large` is that; as released it keeps a 5x5, which no figure shows."""
    return concat(
        same(64, 1),
        large,
        (same(64, 1), same(96, 3), same(96, 3)),
        (avg(3), same(projection, 1)),
        figure="figure 5" if large == FIGURE_5 else "")  # fmt: skip


def mixed_17(f: int) -> Concat:
    """Figure 6, n = 7."""
    return concat(
        same(192, 1),
        (same(f, 1), same(f, (1, 7)), same(192, (7, 1))),
        (same(f, 1), same(f, (7, 1)), same(f, (1, 7)), same(f, (7, 1)), same(192, (1, 7))),
        (avg(3), same(192, 1)),
        figure="figure 6")  # fmt: skip


def mixed_8(pool: Pool = avg(3)) -> Concat:
    """Figure 7: the expanded filter bank."""
    fork = concat(same(384, (1, 3)), same(384, (3, 1)))
    return concat(
        same(320, 1),
        (same(384, 1), fork),
        (same(448, 1), same(384, 3), fork),
        (pool, same(192, 1)),
        figure="figure 7")  # fmt: skip


def reduction_35() -> Concat:
    """Figure 10, from 35x35 to 17x17."""
    return concat(
        valid(384, 3, 2),
        (same(64, 1), same(96, 3), valid(96, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 10",
    )


def reduction_17() -> Concat:
    """From 17x17 to 8x8."""
    return concat(
        (same(192, 1), valid(320, 3, 2)),
        (same(192, 1), same(192, (1, 7)), same(192, (7, 1)), valid(192, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 10")  # fmt: skip


def first_rows() -> Table:
    """299 px to 147x147x64: the first 7x7 of GoogLeNet as three 3x3."""
    return table(
        Conv2d_1a_3x3=valid(32, 3, 2), Conv2d_2a_3x3=valid(32, 3), Conv2d_2b_3x3=same(64, 3)
    )


def stem() -> Table:
    """To 35x35x192."""
    return first_rows() + table(
        MaxPool_3a_3x3=max_(3, 2, "valid"),
        Conv2d_3b_1x1=valid(80, 1),
        Conv2d_4a_3x3=valid(192, 3),
        MaxPool_5a_3x3=max_(3, 2, "valid"),
    )


def classifier() -> Table:
    return table(
        AvgPool_1a=global_avg(), PreLogits=Dropout(), Logits=Linear(), Predictions=Softmax()
    )


def auxiliary_head(
    at: str, wide: Init | None = None, logits: Init | None = None, **unit: Any
) -> tuple[AuxHead, ...]:
    """The side head of figure 8 on the last 17x17 map; on smaller images its windows shrink, on larger ones it averages."""
    full_extent = valid(768, 5, shrink=True, init=wide, **unit)
    return (
        AuxHead(
            "AuxLogits",
            at,
            (
                avg(5, 3, "valid", shrink=True),
                same(128, 1),
                full_extent,
                global_avg(),
                Linear(init=logits),
            ),
        ),
    )


def build_architecture(
    variant: str, source: str, last_pool: Pool = avg(3), **facts: Any
) -> Architecture:
    layers = stem() + table(
        Mixed_5b=mixed_35(32),
        Mixed_5c=mixed_35(64),
        Mixed_5d=mixed_35(64),
        Mixed_6a=reduction_35(),
        Mixed_6b=mixed_17(128),
        Mixed_6c=mixed_17(160),
        Mixed_6d=mixed_17(160),
        Mixed_6e=mixed_17(192),
        Mixed_7a=reduction_17(),
        Mixed_7b=mixed_8(),
        Mixed_7c=mixed_8(last_pool),
    )
    return Architecture(
        "inception_v3",
        variant,
        layers + classifier(),
        source,
        299,
        paper="arXiv:1512.00567",
        **facts,
    )


def released() -> Architecture:
    """The released filters with both parameters of batch norm, as most ports have them."""
    source = "arXiv:1512.00567, section 6; filters as released in tensorflow/models, slim/nets/inception_v3.py"
    return build_architecture(
        "released", source, unit=PAPER, dropout_rate=0.2, aux=auxiliary_head("Mixed_6e")
    )


def tf_slim() -> Architecture:
    heads = auxiliary_head("Mixed_6e", truncated(0.01), truncated(0.001))
    return build_architecture(
        "tf_slim", "tensorflow/models, slim/nets/inception_v3.py", unit=TF_SLIM, dropout_rate=0.2, aux=heads, class_offset=1
    )  # fmt: skip


def tf_2015() -> Architecture:
    """The first public release; as `tf_slim`, with other weights to begin with."""
    unit = replace(TF_SLIM, init=truncated(0.1), linear_init=truncated(0.01))
    return replace(
        tf_slim(),
        variant="tf_2015",
        source="tensorflow/models, inception/slim/inception_model.py",
        unit=unit,
    )


def keras() -> Architecture:
    return build_architecture("keras", "keras, applications/inception_v3.py", unit=KERAS)


def torchvision() -> Architecture:
    heads = auxiliary_head("Mixed_6e", Init("normal", 0.01), Init("normal", 0.001))
    return build_architecture(
        "torchvision", "torchvision, inception.py", unit=TORCHVISION, dropout_rate=0.5, aux=heads
    )


def timm() -> Architecture:
    return replace(torchvision(), variant="timm", source="timm, inception_v3.py", dropout_rate=0.0)


def fid() -> Architecture:
    """The graph of 2015-12-05 that the Frechet Inception Distance is defined on: a max pool in the last module."""
    notes = (("Logits", "the graph has 1008 outputs, the ImageNet classes among them"),)
    return build_architecture(
        "fid", "mseitzer/pytorch-fid, inception.py", last_pool=max_(3), unit=PYTORCH, notes=notes
    )
