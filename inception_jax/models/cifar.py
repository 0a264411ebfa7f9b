"""The ResNets on CIFAR: arXiv:1512.03385, section 4.2; pre-activation, arXiv:1603.05027; Wide ResNets, arXiv:1605.07146."""

from functools import partial

from inception_jax.models.resnet import (  # isort: skip
    BARE, HE1K, MSRA, Block, Shortcut, Variants, basic, classifier, plain, preact_basic, preact_bottleneck, stages,
)  # fmt: skip
from inception_jax.spec.vocabulary import (
    Architecture,
    Conv,
    Dropout,
    NormAct,
    Residual,
    Table,
    Unit,
    conv,
    make_pair,
    same,
    table,
)

STEM = same(16, 3)
BARE_STEM = conv(16, 3, **BARE)


def build_architecture(
    name: str, source: str, stem: Conv, rows: Table, unit: Unit, paper: str
) -> Architecture:
    return Architecture(
        name,
        "paper",
        table(conv1=stem) + rows + classifier(),
        source,
        32,
        unit,
        num_classes=10,
        paper=paper,
    )


def basic_network(name: str, depth: int, block: Block) -> Variants:
    """3n units of two 3x3 with 16, 32 and 64 filters, depth 6n + 2; shortcuts of option A."""
    rows = stages(((depth - 2) // 6,) * 3, block, base=16, stem=16, option="A")
    return {
        "paper": partial(
            build_architecture,
            f"{name}{depth}",
            "arXiv:1512.03385, section 4.2",
            STEM,
            rows,
            MSRA,
            "arXiv:1512.03385",
        )
    }


def resnet(depth: int) -> Variants:
    return basic_network("cifar_resnet", depth, basic)


def plain_network(depth: int) -> Variants:
    return basic_network("cifar_plain", depth, plain)


def preact_network(depth: int, block: Block, count: int, expansion: int) -> Variants:
    rows = stages(
        (count,) * 3, block, base=16, stem=16, expansion=expansion, projection=BARE
    ) + table(postnorm=NormAct())
    return {
        "paper": partial(
            build_architecture,
            f"cifar_preact_resnet{depth}",
            "KaimingHe/resnet-1k-layers",
            BARE_STEM,
            rows,
            HE1K,
            "arXiv:1603.05027",
        )
    }


def preact(depth: int) -> Variants:
    """Pre-activation, two 3x3 in each of 3n units: depth 6n + 2."""
    return preact_network(depth, preact_basic, (depth - 2) // 6, 1)


def preact_bottlenecks(depth: int) -> Variants:
    """Pre-activation, three layers in each of 3n units: depth 9n + 2."""
    return preact_network(depth, partial(preact_bottleneck, stride_in="1x1"), (depth - 2) // 9, 4)


def dropout_unit(filters: int, stride: int, shortcut: Shortcut) -> Residual:
    """arXiv:1605.07146, figure 1(d): dropout between the convolutions."""
    branch = (same(filters, 3, stride), Dropout(), same(filters, 3, **BARE))
    return Residual(branch, shortcut, make_pair(stride), preactivation=True, activation="linear")


def wide(depth: int, k: int) -> Variants:
    """WRN-depth-k: depth 6n + 4, k times the filters. The paper drops 30 % on CIFAR where it drops."""
    rows = stages(
        ((depth - 4) // 6,) * 3, dropout_unit, base=16 * k, stem=16, projection=BARE
    ) + table(postnorm=NormAct())
    return {
        "paper": partial(
            build_architecture,
            f"wrn_{depth}_{k}",
            "arXiv:1605.07146, table 1",
            BARE_STEM,
            rows,
            MSRA,
            "arXiv:1605.07146",
        )
    }
