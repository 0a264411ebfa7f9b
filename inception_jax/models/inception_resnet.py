"""Inception-ResNet-v1 and v2 (arXiv:1602.07261, section 3.2), from the same functions.

The branches of a block end in a linear 1x1 convolution with bias and without norm. Its output is
scaled before the addition (section 3.3: "between 0.1 and 0.3"; the releases take 0.17, 0.10 and
0.20). The widths of the two networks differ.
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.inception_v3 import auxiliary_head
from inception_jax.models.inception_v3 import stem as stem_of_v3
from inception_jax.models.inception_v4 import classifier, reduction_a
from inception_jax.models.inception_v4 import stem as stem_of_v4
from inception_jax.models.units import KERAS, PAPER, PYTORCH, TF_SLIM

from inception_jax.spec.vocabulary import (  # isort: skip
    GLOROT, Activation, Architecture, Concat, Linear, Pair, Residual, Steps, Table, Unit, avg,
    concat, max_, same, table, valid,
)  # fmt: skip


def block35(channels_3x3: Pair, norm: bool = False) -> Residual:
    """Returns figures 10 and 16.

    Args:
      channels_3x3: Widths of the two 3x3 of the last branch.
      norm: Whether the sum is normalised.
    """
    first, second = channels_3x3
    branches = concat(
        same(32, 1),
        (same(32, 1), same(32, 3)),
        (same(32, 1), same(first, 3), same(second, 3)))  # fmt: skip
    return Residual(
        branches, expansion_conv=True, scale=0.17, norm=norm, figure="figures 10 and 16"
    )


def block17(filters_1x1: int, channels_7x7: tuple[int, int, int], norm: bool = False) -> Residual:
    """Returns figures 11 and 17.

    Args:
      filters_1x1: Width of the first branch.
      channels_7x7: Widths of the 1x1, 1x7 and 7x1 of the second branch.
      norm: Whether the sum is normalised.
    """
    first, second, third = channels_7x7
    branches = concat(
        same(filters_1x1, 1),
        (same(first, 1), same(second, (1, 7)), same(third, (7, 1))))  # fmt: skip
    return Residual(
        branches, expansion_conv=True, scale=0.10, norm=norm, figure="figures 11 and 17"
    )


def block8(
    channels_3x3: Pair,
    scale: float = 0.20,
    activation: Activation | None = None,
    norm: bool = False,
) -> Residual:
    """Returns figures 13 and 19.

    Args:
      channels_3x3: Widths of the 1x3 and 3x1 of the second branch.
      scale: Factor of the branches.
      activation: Activation after the sum; None for the unit's.
      norm: Whether the sum is normalised.
    """
    first, second = channels_3x3
    branches = concat(
        same(192, 1),
        (same(192, 1), same(first, (1, 3)), same(second, (3, 1))))  # fmt: skip
    return Residual(
        branches, expansion_conv=True, scale=scale, activation=activation, norm=norm,
        figure="figures 13 and 19",
    )  # fmt: skip


def reduction_b(second_3x3: int, third_3x3: Pair) -> Concat:
    """Returns figures 12 and 18, from 17x17 to 8x8.

    Args:
      second_3x3: Width of the 3x3 of the second branch.
      third_3x3: Widths of the two 3x3 of the third branch.
    """
    return concat(
        (same(256, 1), valid(384, 3, 2)),
        (same(256, 1), valid(second_3x3, 3, 2)),
        (same(256, 1), same(third_3x3[0], 3), valid(third_3x3[1], 3, 2)),
        max_(3, 2, "valid"),
        figure="figures 12 and 18")  # fmt: skip


def stem_of_v1() -> Table:
    """Returns figure 14."""
    return stem_of_v3()[:-1] + table(
        Conv2d_4b_3x3=valid(256, 3, 2),  # 35 x 35 x 256
    )


def released_stem_of_v2() -> Table:
    """Returns the stem of Inception-v3 and a module."""
    return stem_of_v3() + table(
        Mixed_5b=concat(
            same(96, 1),
            (same(48, 1), same(64, 5)),
            (same(64, 1), same(96, 3), same(96, 3)),
            (avg(3), same(64, 1)),
        ),  # 35 x 35 x 320
    )


def repeat(name: str, count: int, block: Steps) -> dict[str, Steps]:
    """Repeats a block in rows `name`_1, `name`_2 and so on."""
    return {f"{name}_{i}": block for i in range(1, count + 1)}


def build_v1(
    variant: str,
    source: str,
    last_block: Table = (),
    head: Table = classifier(),
    **facts: Any,
) -> Architecture:
    """Builds figure 15 with table 1's widths of v1. Its empty rows are facenet's end points.

    Args:
      variant: Name of the variant.
      source: The release that the numbers come from.
      last_block: A block after the others, or nothing.
      head: The rows after the blocks.
      **facts: Other fields of `Architecture`.
    """
    layers = stem_of_v1() + table(
        **repeat("block35", 5, block35((32, 32))),  # 35 x 35 x 256
        Mixed_5a=(),  # 35 x 35 x 256
        Mixed_6a=reduction_a(192, 192, 256, 384),  # 17 x 17 x 896
        **repeat("block17", 10, block17(128, (128, 128, 128))),  # 17 x 17 x 896
        Mixed_6b=(),  # 17 x 17 x 896
        Mixed_7a=reduction_b(256, (256, 256)),  # 8 x 8 x 1792
        **repeat("block8", 5, block8((192, 192))),  # 8 x 8 x 1792
        Mixed_8a=(),  # 8 x 8 x 1792
        **dict(last_block),  # 8 x 8 x 1792
        PrePool=(),  # 8 x 8 x 1792
    )
    return Architecture(
        "inception_resnet_v1", variant, layers + head, source, 299, dropout_rate=0.2,
        paper="arXiv:1602.07261", **facts,
    )  # fmt: skip


def v1_paper() -> Architecture:
    """Builds the paper's Inception-ResNet-v1."""
    return build_v1("paper", "arXiv:1602.07261, figures 10 to 15", unit=PAPER)


def facenet_block() -> Table:
    """Returns facenet's sixth block at 8x8, which has no activation; v2 has such a block too."""
    return table(
        Mixed_8b=block8((192, 192), 1.0, "linear"),  # 8 x 8 x 1792
    )


def v1_facenet() -> Architecture:
    """Builds timesler/facenet-pytorch's network without the embedding layer."""
    source = "davidsandberg/facenet; timesler/facenet-pytorch, inception_resnet_v1.py"
    return build_v1("facenet", source, facenet_block(), unit=PYTORCH)


def v1_facenet_embedding(
    variant: str = "facenet_embedding",
    source: str = "davidsandberg/facenet, inception_resnet_v1.py",
    unit: Unit | None = None,
) -> Architecture:
    """Builds the network as facenet trained it.

    It has batch norm without gamma and an embedding of 512 before the classifier.
    """
    pool, dropout, *logits = classifier()
    embedding = table(
        Bottleneck=Linear(512, norm=True, bias=False),  # 512
    )
    head = (pool, dropout, *embedding, *logits)
    unit = unit or replace(TF_SLIM, init=GLOROT)
    return build_v1(variant, source, facenet_block(), head, unit=unit)


def v1_facenet_pytorch() -> Architecture:
    """Builds the network of `v1_facenet_embedding` with gammas, which its weights have as 1."""
    source = "timesler/facenet-pytorch, inception_resnet_v1.py"
    return v1_facenet_embedding("facenet_pytorch", source, PYTORCH)


def build_v2(
    variant: str,
    source: str,
    stem: Table,
    num_blocks: tuple[int, int, int],
    last_rows: Table,
    norm: bool = False,
    **facts: Any,
) -> Architecture:
    """Builds figure 15 with table 1's widths of v2; the comments give the released network.

    Args:
      variant: Name of the variant.
      source: The release that the numbers come from.
      stem: The rows before the blocks.
      num_blocks: Number of blocks at 35x35, 17x17 and 8x8.
      last_rows: Rows after the blocks.
      norm: Whether the sums are normalised.
      **facts: Other fields of `Architecture`.
    """
    num_35, num_17, num_8 = num_blocks
    layers = stem + table(
        **repeat("block35", num_35, block35((48, 64), norm)),  # 35 x 35 x 320
        Mixed_6a=reduction_a(256, 256, 384, 384),  # 17 x 17 x 1088
        **repeat("block17", num_17, block17(192, (128, 160, 192), norm)),  # 17 x 17 x 1088
        PreAuxLogits=(),  # 17 x 17 x 1088
        Mixed_7a=reduction_b(288, (288, 320)),  # 8 x 8 x 2080
        **repeat("block8", num_8, block8((224, 256), norm=norm)),  # 8 x 8 x 2080
    )
    return Architecture(
        "inception_resnet_v2", variant, layers + last_rows + classifier(), source, 299,
        paper="arXiv:1602.07261", **facts,
    )  # fmt: skip


def v2_released(
    variant: str = "released",
    source: str = "tensorflow/models, slim/nets/inception_resnet_v2.py",
    norm: bool = False,
    **facts: Any,
) -> Architecture:
    """Builds the network of all checkpoints.

    It has 10, 20 and 10 blocks, the last linear and unscaled, and then a 1x1 convolution to 1536.
    """
    last_rows = table(
        Block8=block8((224, 256), 1.0, "linear", norm),  # 8 x 8 x 2080
        Conv2d_7b_1x1=same(1536, 1),  # 8 x 8 x 1536
    )
    facts = {"unit": PAPER, "dropout_rate": 0.2, "aux": auxiliary_head("PreAuxLogits"), **facts}
    return build_v2(variant, source, released_stem_of_v2(), (10, 20, 9), last_rows, norm, **facts)


def v2_norm_on_sum() -> Architecture:
    """Builds the network with batch norm on the sums, which section 3.2 omits to save memory."""
    return v2_released("norm_on_sum", norm=True)


def v2_tf_slim() -> Architecture:
    """Builds TF-Slim's network, with Glorot's uniform distribution for all kernels.

    The scope of the release sets no initialiser.
    """
    return v2_released("tf_slim", unit=replace(TF_SLIM, init=GLOROT), class_offset=1)


def v2_keras() -> Architecture:
    """Builds Keras's network, which has no gamma, no dropout and no auxiliary head."""
    source = "keras, applications/inception_resnet_v2.py"
    return v2_released("keras", source, unit=KERAS, dropout_rate=0.0, aux=())


def v2_timm() -> Architecture:
    """Builds timm's network, which has no dropout and no auxiliary head."""
    source = "timm, inception_resnet_v2.py"
    return v2_released("timm", source, unit=PYTORCH, dropout_rate=0.0, aux=())


def v2_cadene() -> Architecture:
    """Builds Cadene's network, which is timm's with a background class."""
    source = "Cadene/pretrained-models.pytorch, inceptionresnetv2.py"
    return v2_released("cadene", source, unit=PYTORCH, dropout_rate=0.0, aux=(), class_offset=1)


def v2_paper(variant: str = "paper", num_blocks: tuple[int, int, int] = (5, 10, 5)) -> Architecture:
    """Builds figures 3 and 15 to 19 with the widths that the sums need.

    The drawings print 1154 for 1152 and 2048 for 2144.
    """
    return build_v2(
        variant, "arXiv:1602.07261, figures 15 to 19", stem_of_v4(), num_blocks, (), unit=PAPER,
        dropout_rate=0.2, aux=auxiliary_head("PreAuxLogits"),
    )  # fmt: skip


def v2_paper_deep() -> Architecture:
    """Builds the paper's widths with the released numbers of blocks."""
    return v2_paper("paper_10_20_10", (10, 20, 10))
