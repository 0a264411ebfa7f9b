"""The ResNets on CIFAR: arXiv:1512.03385, section 4.2.

Pre-activation is arXiv:1603.05027; Wide ResNets are arXiv:1605.07146.
"""

from collections.abc import Callable
from functools import partial

from inception_jax.models.resnet import (  # isort: skip
    BARE, HE1K, MSRA, Block, Filters, Shortcut, Stage, Style, Variants, basic, plain, preact_basic,
    preact_bottleneck, stage_table,
)  # fmt: skip
from inception_jax.spec.vocabulary import (  # isort: skip
    Architecture, Dropout, Linear, Residual, Softmax, Table, Unit, conv, global_avg, make_pair,
    same,
)  # fmt: skip

STEM = same(16, 3)
BARE_STEM = conv(16, 3, **BARE)


def dropout_unit(filters: Filters, stride: int, shortcut: Shortcut) -> Residual:
    """Returns arXiv:1605.07146, figure 1(d): dropout between the convolutions."""
    branch = (same(filters[0], 3, stride), Dropout(), same(filters[1], 3, **BARE))
    return Residual(branch, shortcut, make_pair(stride), preactivation=True, activation="linear")


def basic_stages(n: int, style: Style) -> Table:
    """Returns 3n units of two layers."""
    return stage_table(
        style,
        conv1=style.stem,  # 32 x 32 x 16
        block1=Stage(n, (16, 16)),  # 32 x 32 x 16
        block2=Stage(n, (32, 32), stride=2),  # 16 x 16 x 32
        block3=Stage(n, (64, 64), stride=2),  # 8 x 8 x 64
        global_pool=global_avg(),  # 64
        Logits=Linear(),  # 10
        Predictions=Softmax(),  # 10
    )


def bottleneck_stages(n: int, style: Style) -> Table:
    """Returns 3n units of three layers."""
    return stage_table(
        style,
        conv1=style.stem,  # 32 x 32 x 16
        block1=Stage(n, (16, 16, 64)),  # 32 x 32 x 64
        block2=Stage(n, (32, 32, 128), stride=2),  # 16 x 16 x 128
        block3=Stage(n, (64, 64, 256), stride=2),  # 8 x 8 x 256
        global_pool=global_avg(),  # 256
        Logits=Linear(),  # 10
        Predictions=Softmax(),  # 10
    )


def wide_stages(n: int, k: int, style: Style) -> Table:
    """Returns 3n units of two layers with k times the filters; the comments are for k = 8."""
    return stage_table(
        style,
        conv1=style.stem,  # 32 x 32 x 16
        block1=Stage(n, (16 * k, 16 * k)),  # 32 x 32 x 128
        block2=Stage(n, (32 * k, 32 * k), stride=2),  # 16 x 16 x 256
        block3=Stage(n, (64 * k, 64 * k), stride=2),  # 8 x 8 x 512
        global_pool=global_avg(),  # 512
        Logits=Linear(),  # 10
        Predictions=Softmax(),  # 10
    )


def make_variants(
    name: str, source: str, paper: str, unit: Unit, make_table: Callable[[], Table]
) -> Variants:
    """Returns the one variant of a network for CIFAR-10."""

    def build_architecture() -> Architecture:
        return Architecture(
            name, "paper", make_table(), source, 32, unit, num_classes=10, paper=paper
        )

    return {"paper": build_architecture}


def basic_variants(name: str, depth: int, block: Block) -> Variants:
    """Returns a network of depth 6n + 2 with shortcuts of option A."""
    layers = partial(basic_stages, (depth - 2) // 6, Style(block, STEM, shortcuts="A"))
    source = "arXiv:1512.03385, section 4.2"
    return make_variants(f"{name}{depth}", source, "arXiv:1512.03385", MSRA, layers)


def resnet_variants(depth: int) -> Variants:
    """Returns the ResNet of depth 6n + 2."""
    return basic_variants("cifar_resnet", depth, basic)


def plain_variants(depth: int) -> Variants:
    """Returns the network of depth 6n + 2 without shortcuts."""
    return basic_variants("cifar_plain", depth, plain)


def make_preact_style(block: Block) -> Style:
    """Returns the style of the pre-activation networks with this unit."""
    return Style(block, BARE_STEM, projection=BARE, is_preactivation=True)


def preact_variants(depth: int) -> Variants:
    """Returns the pre-activation ResNet of depth 6n + 2."""
    layers = partial(basic_stages, (depth - 2) // 6, make_preact_style(preact_basic))
    name, source = f"cifar_preact_resnet{depth}", "KaimingHe/resnet-1k-layers"
    return make_variants(name, source, "arXiv:1603.05027", HE1K, layers)


def preact_bottleneck_variants(depth: int) -> Variants:
    """Returns the pre-activation ResNet of depth 9n + 2, whose units are bottlenecks."""
    block = partial(preact_bottleneck, strided_kernel="1x1")
    layers = partial(bottleneck_stages, (depth - 2) // 9, make_preact_style(block))
    name, source = f"cifar_preact_resnet{depth}", "KaimingHe/resnet-1k-layers"
    return make_variants(name, source, "arXiv:1603.05027", HE1K, layers)


def wide_variants(depth: int, k: int) -> Variants:
    """Returns WRN-depth-k, of depth 6n + 4 and with k times the filters.

    Where the paper uses dropout on CIFAR, its rate is 30 %.
    """
    layers = partial(wide_stages, (depth - 4) // 6, k, make_preact_style(dropout_unit))
    name, source = f"wrn_{depth}_{k}", "arXiv:1605.07146, table 1"
    return make_variants(name, source, "arXiv:1605.07146", MSRA, layers)
