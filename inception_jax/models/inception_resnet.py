"""Inception-ResNet-v1 and v2 (arXiv:1602.07261, section 3.2): both from the same functions, with other widths.

A block's branches end in a linear 1x1 with bias and without norm (`up`); what it gives is scaled before it is added
(section 3.3: "between 0.1 and 0.3"; the releases take 0.17, 0.10 and 0.20).
"""

from dataclasses import replace
from typing import Any

from inception_jax.models.inception_v3 import auxiliary_head
from inception_jax.models.inception_v3 import stem as simple_stem
from inception_jax.models.inception_v4 import classifier, reduction_a
from inception_jax.models.inception_v4 import stem as stem_of_v4
from inception_jax.models.units import KERAS, PAPER, PYTORCH, TF_SLIM

from inception_jax.spec.vocabulary import (  # isort: skip
    GLOROT, Activation, Architecture, Concat, Linear, Pair, Residual, Steps, Table, Unit, avg, concat, max_, same, table, valid,
)  # fmt: skip


def block35(f: Pair, norm: bool = False) -> Residual:
    """Figures 10 and 16."""
    branches = concat(
        same(32, 1), (same(32, 1), same(32, 3)), (same(32, 1), same(f[0], 3), same(f[1], 3))
    )
    return Residual(
        branches, expansion_conv=True, scale=0.17, norm=norm, figure="figures 10 and 16"
    )


def block17(one: int, f: tuple[int, int, int], norm: bool = False) -> Residual:
    """Figures 11 and 17."""
    branches = concat(same(one, 1), (same(f[0], 1), same(f[1], (1, 7)), same(f[2], (7, 1))))
    return Residual(
        branches, expansion_conv=True, scale=0.10, norm=norm, figure="figures 11 and 17"
    )


def block8(
    f: Pair, scale: float = 0.20, activation: Activation | None = None, norm: bool = False
) -> Residual:
    """Figures 13 and 19."""
    branches = concat(same(192, 1), (same(192, 1), same(f[0], (1, 3)), same(f[1], (3, 1))))
    return Residual(
        branches,
        expansion_conv=True,
        scale=scale,
        activation=activation,
        norm=norm,
        figure="figures 13 and 19",
    )


def reduction_b(second: int, third: Pair) -> Concat:
    """Figures 12 and 18, from 17x17 to 8x8."""
    return concat(
        (same(256, 1), valid(384, 3, 2)),
        (same(256, 1), valid(second, 3, 2)),
        (same(256, 1), same(third[0], 3), valid(third[1], 3, 2)),
        max_(3, 2, "valid"),
        figure="figures 12 and 18")  # fmt: skip


def stem_of_v1() -> Table:
    """Figure 14: 299 px to 35x35x256."""
    return simple_stem()[:-1] + table(Conv2d_4b_3x3=valid(256, 3, 2))


def stem_released() -> Table:
    """Of v2: Inception-v3's, and a module to 35x35x320."""
    wide = (same(64, 1), same(96, 3), same(96, 3))
    return simple_stem() + table(
        Mixed_5b=concat(same(96, 1), (same(48, 1), same(64, 5)), wide, (avg(3), same(64, 1)))
    )


def repeat(name: str, count: int, block: Steps) -> Table:
    return tuple((f"{name}_{i}", block) for i in range(1, count + 1))


def v1(
    variant: str, source: str, last: Table = (), head: Table = classifier(), **facts: Any
) -> Architecture:
    """Figure 15 with table 1's widths of v1. `last` follows the blocks; the empty rows are facenet's end points."""
    layers = (
        stem_of_v1()
        + repeat("block35", 5, block35((32, 32)))
        + table(Mixed_5a=(), Mixed_6a=reduction_a(192, 192, 256, 384))
    )
    layers += repeat("block17", 10, block17(128, (128, 128, 128))) + table(
        Mixed_6b=(), Mixed_7a=reduction_b(256, (256, 256))
    )
    layers += (
        repeat("block8", 5, block8((192, 192))) + table(Mixed_8a=()) + last + table(PrePool=())
    )
    return Architecture(
        "inception_resnet_v1",
        variant,
        layers + head,
        source,
        299,
        dropout_rate=0.2,
        paper="arXiv:1602.07261",
        **facts,
    )


def v1_paper() -> Architecture:
    return v1("paper", "arXiv:1602.07261, figures 10 to 15", unit=PAPER)


def v1_facenet() -> Architecture:
    """A sixth block without activation, as v2 has; as timesler/facenet-pytorch keeps it, without the embedding layer."""
    last = table(Mixed_8b=block8((192, 192), 1.0, "linear"))
    return v1(
        "facenet",
        "davidsandberg/facenet; timesler/facenet-pytorch, inception_resnet_v1.py",
        last,
        unit=PYTORCH,
    )


def v1_facenet_embedding(
    variant: str = "facenet_embedding",
    source: str = "davidsandberg/facenet, inception_resnet_v1.py",
    unit: Unit | None = None,
) -> Architecture:
    """As facenet trained it: batch norm without gamma, and an embedding of 512 under the classifier."""
    last = table(Mixed_8b=block8((192, 192), 1.0, "linear"))
    pool, dropout, *logits = classifier()
    head = (pool, dropout, *table(Bottleneck=Linear(512, norm=True, bias=False)), *logits)
    return v1(variant, source, last, head, unit=unit or replace(TF_SLIM, init=GLOROT))


def v1_facenet_pytorch() -> Architecture:
    """The same with gammas, which its weights have as 1."""
    return v1_facenet_embedding(
        "facenet_pytorch", "timesler/facenet-pytorch, inception_resnet_v1.py", PYTORCH
    )


def v2(
    variant: str,
    source: str,
    stem: Table,
    counts: tuple[int, int, int],
    last: Table,
    norm: bool = False,
    **facts: Any,
) -> Architecture:
    """Figure 15 with table 1's widths of v2."""
    layers = (
        stem
        + repeat("block35", counts[0], block35((48, 64), norm))
        + table(Mixed_6a=reduction_a(256, 256, 384, 384))
    )
    layers += repeat("block17", counts[1], block17(192, (128, 160, 192), norm))
    layers += table(PreAuxLogits=(), Mixed_7a=reduction_b(288, (288, 320)))
    layers += repeat("block8", counts[2], block8((224, 256), norm=norm)) + last
    return Architecture(
        "inception_resnet_v2",
        variant,
        layers + classifier(),
        source,
        299,
        paper="arXiv:1602.07261",
        **facts,
    )


def v2_released(
    variant: str = "released",
    source: str = "tensorflow/models, slim/nets/inception_resnet_v2.py",
    **facts: Any,
) -> Architecture:
    """The network of all checkpoints: 10, 20 and 10 blocks, the last linear and unscaled, then a 1x1 to 1536."""
    last = table(
        Block8=block8((224, 256), 1.0, "linear", facts.get("norm", False)),
        Conv2d_7b_1x1=same(1536, 1),
    )
    facts = {"unit": PAPER, "dropout_rate": 0.2, "aux": auxiliary_head("PreAuxLogits"), **facts}
    return v2(variant, source, stem_released(), (10, 20, 9), last, **facts)


def v2_norm_on_sum() -> Architecture:
    """Batch norm on the sums too, which section 3.2 leaves out for want of memory."""
    return v2_released("norm_on_sum", norm=True)


def v2_tf_slim() -> Architecture:
    """Glorot's uniform law throughout: its scope sets no initialiser."""
    return v2_released("tf_slim", unit=replace(TF_SLIM, init=GLOROT), class_offset=1)


def v2_keras() -> Architecture:
    return v2_released(
        "keras", "keras, applications/inception_resnet_v2.py", unit=KERAS, dropout_rate=0.0, aux=()
    )


def v2_timm() -> Architecture:
    return v2_released(
        "timm", "timm, inception_resnet_v2.py", unit=PYTORCH, dropout_rate=0.0, aux=()
    )


def v2_cadene() -> Architecture:
    source = "Cadene/pretrained-models.pytorch, inceptionresnetv2.py"
    return v2_released("cadene", source, unit=PYTORCH, dropout_rate=0.0, aux=(), class_offset=1)


def v2_paper(variant: str = "paper", counts: tuple[int, int, int] = (5, 10, 5)) -> Architecture:
    """Figures 3 and 15 to 19, at the widths that the sums need: the drawings print 1154 for 1152 and 2048 for 2144."""
    heads = auxiliary_head("PreAuxLogits")
    return v2(
        variant,
        "arXiv:1602.07261, figures 15 to 19",
        stem_of_v4(),
        counts,
        (),
        dropout_rate=0.2,
        unit=PAPER,
        aux=heads,
    )


def v2_paper_deep() -> Architecture:
    """The paper's widths with the released numbers of blocks."""
    return v2_paper("paper_10_20_10", (10, 20, 10))
