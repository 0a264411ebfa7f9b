"""Inception-v3: "Rethinking the Inception Architecture" (arXiv:1512.00567), as released.

The network of the paper's table 1 is `inception_v2_rethinking`, which has the same modules.
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.units import KERAS, PAPER, PYTORCH, TF_SLIM, TORCHVISION, truncated_normal

from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, AuxHead, Concat, Dropout, Init, Linear, Pool, Softmax, Steps, Table, avg, concat,
    global_avg, max_, same, table, valid,
)  # fmt: skip

RELEASED, FIGURE_5 = (same(48, 1), same(64, 5)), (same(48, 1), same(64, 3))


def mixed_35(projection: int, large_branch: Steps = RELEASED) -> Concat:
    """Returns a module at 35x35.

    Args:
      projection: Channels of the pool projection.
      large_branch: The branch with the larger kernel. With `FIGURE_5` the module is figure 5; the
        release keeps a 5x5, which no figure shows.
    """
    return concat(
        same(64, 1),
        large_branch,
        (same(64, 1), same(96, 3), same(96, 3)),
        (avg(3), same(projection, 1)),
        figure="figure 5" if large_branch == FIGURE_5 else "")  # fmt: skip


def mixed_17(channels_7x7: int) -> Concat:
    """Returns figure 6 with n = 7; `channels_7x7` is the width inside the factorised branches."""
    return concat(
        same(192, 1),
        (same(channels_7x7, 1), same(channels_7x7, (1, 7)), same(192, (7, 1))),
        (same(channels_7x7, 1), same(channels_7x7, (7, 1)), same(channels_7x7, (1, 7)),
         same(channels_7x7, (7, 1)), same(192, (1, 7))),
        (avg(3), same(192, 1)),
        figure="figure 6")  # fmt: skip


def mixed_8(pool: Pool = avg(3)) -> Concat:
    """Returns figure 7, the expanded filter bank."""
    fork = concat(same(384, (1, 3)), same(384, (3, 1)))
    return concat(
        same(320, 1),
        (same(384, 1), fork),
        (same(448, 1), same(384, 3), fork),
        (pool, same(192, 1)),
        figure="figure 7")  # fmt: skip


def reduction_35() -> Concat:
    """Returns figure 10 from 35x35 to 17x17."""
    return concat(
        valid(384, 3, 2),
        (same(64, 1), same(96, 3), valid(96, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 10")  # fmt: skip


def reduction_17() -> Concat:
    """Returns figure 10 from 17x17 to 8x8."""
    return concat(
        (same(192, 1), valid(320, 3, 2)),
        (same(192, 1), same(192, (1, 7)), same(192, (7, 1)), valid(192, 3, 2)),
        max_(3, 2, "valid"),
        figure="figure 10")  # fmt: skip


def first_rows() -> Table:
    """Returns the first rows, which replace the first 7x7 of GoogLeNet by three 3x3."""
    return table(
        Conv2d_1a_3x3=valid(32, 3, 2),  # 149 x 149 x 32
        Conv2d_2a_3x3=valid(32, 3),  # 147 x 147 x 32
        Conv2d_2b_3x3=same(64, 3),  # 147 x 147 x 64
    )


def stem() -> Table:
    """Returns the rows before the modules."""
    return first_rows() + table(
        MaxPool_3a_3x3=max_(3, 2, "valid"),  # 73 x 73 x 64
        Conv2d_3b_1x1=valid(80, 1),  # 73 x 73 x 80
        Conv2d_4a_3x3=valid(192, 3),  # 71 x 71 x 192
        MaxPool_5a_3x3=max_(3, 2, "valid"),  # 35 x 35 x 192
    )


def classifier() -> Table:
    """Returns the rows after the modules."""
    return table(
        AvgPool_1a=global_avg(),  # 2048
        PreLogits=Dropout(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def auxiliary_head(
    at: str, conv_init: Init | None = None, logits_init: Init | None = None, **unit: Any
) -> tuple[AuxHead, ...]:
    """Returns the auxiliary head of figure 8.

    On smaller images its windows shrink, on larger images it averages.

    Args:
      at: The end point that it reads, the last map of 17x17.
      conv_init: Initialiser of the 5x5 convolution; None for the unit's.
      logits_init: Initialiser of its classifier; None for the unit's.
      **unit: Other fields of the 5x5 convolution.
    """
    steps = (
        avg(5, 3, "valid", shrink=True),
        same(128, 1),
        valid(768, 5, shrink=True, init=conv_init, **unit),
        global_avg(),
        Linear(init=logits_init),
    )
    return (AuxHead("AuxLogits", at, steps),)


def build_architecture(
    variant: str, source: str, final_pool: Pool = avg(3), **facts: Any
) -> Architecture:
    """Builds the released network.

    Args:
      variant: Name of the variant.
      source: The release that the numbers come from.
      final_pool: The pool of the last module.
      **facts: Other fields of `Architecture`.
    """
    layers = stem() + table(
        Mixed_5b=mixed_35(32),  # 35 x 35 x 256
        Mixed_5c=mixed_35(64),  # 35 x 35 x 288
        Mixed_5d=mixed_35(64),  # 35 x 35 x 288
        Mixed_6a=reduction_35(),  # 17 x 17 x 768
        Mixed_6b=mixed_17(128),  # 17 x 17 x 768
        Mixed_6c=mixed_17(160),  # 17 x 17 x 768
        Mixed_6d=mixed_17(160),  # 17 x 17 x 768
        Mixed_6e=mixed_17(192),  # 17 x 17 x 768
        Mixed_7a=reduction_17(),  # 8 x 8 x 1280
        Mixed_7b=mixed_8(),  # 8 x 8 x 2048
        Mixed_7c=mixed_8(final_pool),  # 8 x 8 x 2048
    )
    return Architecture(
        "inception_v3", variant, layers + classifier(), source, 299, paper="arXiv:1512.00567",
        **facts,
    )  # fmt: skip


def released() -> Architecture:
    """Builds the released filters with both parameters of batch norm, as most ports have them."""
    source = (
        "arXiv:1512.00567, section 6; "
        "filters as released in tensorflow/models, slim/nets/inception_v3.py"
    )
    aux = auxiliary_head("Mixed_6e")
    return build_architecture("released", source, unit=PAPER, dropout_rate=0.2, aux=aux)


def tf_slim() -> Architecture:
    """Builds TF-Slim's network, which has no gamma and a background class."""
    return build_architecture(
        "tf_slim", "tensorflow/models, slim/nets/inception_v3.py", unit=TF_SLIM, dropout_rate=0.2,
        aux=auxiliary_head("Mixed_6e", truncated_normal(0.01), truncated_normal(0.001)),
        class_offset=1,
    )  # fmt: skip


def tf_2015() -> Architecture:
    """Builds the first public release, which differs from `tf_slim` in its initial weights."""
    return replace(
        tf_slim(), variant="tf_2015", source="tensorflow/models, inception/slim/inception_model.py",
        unit=replace(TF_SLIM, init=truncated_normal(0.1), linear_init=truncated_normal(0.01)),
    )  # fmt: skip


def keras() -> Architecture:
    """Builds Keras's network, which has no gamma, no dropout and no auxiliary head."""
    return build_architecture("keras", "keras, applications/inception_v3.py", unit=KERAS)


def torchvision() -> Architecture:
    """Builds torchvision's network."""
    return build_architecture(
        "torchvision", "torchvision, inception.py", unit=TORCHVISION, dropout_rate=0.5,
        aux=auxiliary_head("Mixed_6e", Init("normal", 0.01), Init("normal", 0.001)),
    )  # fmt: skip


def timm() -> Architecture:
    """Builds timm's network, which is torchvision's without dropout."""
    return replace(torchvision(), variant="timm", source="timm, inception_v3.py", dropout_rate=0.0)


def fid() -> Architecture:
    """Builds the graph of 2015-12-05 that defines the Frechet Inception Distance.

    The pool of its last module is a max pool.
    """
    notes = (("Logits", "the graph has 1008 outputs, the ImageNet classes among them"),)
    return build_architecture(
        "fid", "mseitzer/pytorch-fid, inception.py", final_pool=max_(3), unit=PYTORCH, notes=notes
    )
