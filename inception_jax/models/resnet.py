"""The ResNets and plain networks of "Deep Residual Learning" (arXiv:1512.03385), table 1.

Pre-activation is "Identity Mappings" (arXiv:1603.05027); wide bottlenecks are "Wide Residual
Networks" (arXiv:1605.07146, table 8). End points have TF-Slim's names with `_` for `/`: `conv1`,
`block1_unit_1`, `block1`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

from inception_jax.models.units import PAPER, SLIM_SCALING

from inception_jax.spec.vocabulary import (  # isort: skip
    GLOROT, Architecture, Conv, Init, Linear, NormAct, Pool, Residual, Softmax, Steps, Table, Unit,
    conv, global_avg, max_, make_pair, same,
)  # fmt: skip

MSRA = replace(PAPER, norm_epsilon=1e-5, same="symmetric", init=Init("normal", 2.0, "fan_in"))
HE1K = replace(MSRA, init=Init("normal", 2.0, "fan_out"))
FACEBOOK = replace(HE1K, linear_init=Init("uniform", 1 / 3, "fan_in"))
SLIM = replace(MSRA, init=SLIM_SCALING)
KERAS = replace(MSRA, norm_epsilon=1.001e-5, running_variance="biased", init=GLOROT)

LINEAR: dict[str, Any] = {"activation": "linear"}
BARE: dict[str, Any] = {"activation": "linear", "norm": False}
BARE_BIASED: dict[str, Any] = {"activation": "linear", "norm": False, "bias": True}

STEM = conv(64, 7, 2)
BARE_STEM = conv(64, 7, 2, **BARE)
TORCH_POOL = max_(3, 2, (1, 1))

Filters = tuple[int, ...]
"""The filters of the convolutions of a residual unit, in order."""
Shortcut = Steps | Literal["pad"] | None
ShortcutOption = Literal["A", "B", "C"]
StridedKernel = Literal["1x1", "3x3"]
Block = Callable[[Filters, int, Shortcut], Steps]
"""(filters, stride, shortcut) -> the words of a unit."""
Variants = Mapping[str, Callable[[], Architecture]]


# The units of the stages.


def plain(filters: Filters, stride: int, shortcut: Shortcut) -> Steps:
    """Returns the two 3x3 of a basic unit without a shortcut."""
    return same(filters[0], 3, stride), same(filters[1], 3)


def basic(filters: Filters, stride: int, shortcut: Shortcut) -> Residual:
    """Returns figure 5, left."""
    branch = (same(filters[0], 3, stride), same(filters[1], 3, **LINEAR))
    return Residual(branch, shortcut, make_pair(stride))


def bottleneck(
    filters: Filters, stride: int, shortcut: Shortcut, *, strided_kernel: StridedKernel = "3x3"
) -> Residual:
    """Returns figure 5, right.

    The stride is in the first 1x1 in the paper's networks and in the 3x3 in torchvision's ("v1.5").
    """
    first, second = (stride, 1) if strided_kernel == "1x1" else (1, stride)
    branch = (
        same(filters[0], 1, first), same(filters[1], 3, second), same(filters[2], 1, **LINEAR)
    )  # fmt: skip
    return Residual(branch, shortcut, make_pair(stride))


def preact_basic(filters: Filters, stride: int, shortcut: Shortcut) -> Residual:
    """Returns arXiv:1603.05027, figure 1(b)."""
    branch = (same(filters[0], 3, stride), same(filters[1], 3, **BARE))
    return Residual(branch, shortcut, make_pair(stride), preactivation=True, activation="linear")


def preact_bottleneck(
    filters: Filters,
    stride: int,
    shortcut: Shortcut,
    *,
    strided_kernel: StridedKernel = "3x3",
    last_conv: Any = BARE,
) -> Residual:
    """Returns figure 1(b) as a bottleneck; `last_conv` are fields of the 1x1 that ends it."""
    first, second = (stride, 1) if strided_kernel == "1x1" else (1, stride)
    branch = (
        same(filters[0], 1, first), same(filters[1], 3, second), same(filters[2], 1, **last_conv)
    )  # fmt: skip
    return Residual(branch, shortcut, make_pair(stride), preactivation=True, activation="linear")


# From a row of table 1 to its units.


class Stage(NamedTuple):
    """A stage of a table: `units` residual units with these filters, the first with the stride."""

    units: int
    filters: Filters
    stride: int = 1


class Style(NamedTuple):
    """The facts in which networks with one table of stages differ.

    Attributes:
      block: The residual unit.
      stem: Row `conv1`.
      pool: Row `pool1`.
      shortcuts: The option of section 4.1. A subsamples and pads with zeros where the shape
        changes, B projects there, C projects everywhere.
      projection: Fields of the 1x1 convolution of a projection.
      is_stride_in_last_unit: Whether the stride of a stage is in the last unit of the stage before
        it (TF-Slim) instead of in its own first unit.
      is_preactivation: Whether a norm and an activation follow the last stage.
    """

    block: Block
    stem: Conv = STEM
    pool: Pool = TORCH_POOL
    shortcuts: ShortcutOption = "B"
    projection: Any = LINEAR
    is_stride_in_last_unit: bool = False
    is_preactivation: bool = False


def stage_table(style: Style, **rows: Steps | Stage) -> Table:
    """Returns a table in which each stage is written out as its units.

    A stage `block1` becomes the rows `block1_unit_1`, `block1_unit_2`, ... and an empty row
    `block1`. With `style.is_preactivation` a row `postnorm` comes before the global pool.
    """
    layers: list[tuple[str, Steps]] = []
    stages = [row for row in rows.values() if isinstance(row, Stage)]
    next_strides = iter([*(stage.stride for stage in stages[1:]), 1])
    channels = style.stem.filters
    for name, row in rows.items():
        if name == "global_pool" and style.is_preactivation:
            layers += [("postnorm", NormAct())]
        if not isinstance(row, Stage):
            layers += [(name, row)]
            continue
        strides = [1] * row.units
        next_stride = next(next_strides)
        if style.is_stride_in_last_unit:
            strides[-1] = next_stride
        else:
            strides[0] = row.stride
        for i, stride in enumerate(strides):
            shortcut = make_shortcut(style, channels, row.filters[-1], stride)
            layers += [(f"{name}_unit_{i + 1}", style.block(row.filters, stride, shortcut))]
            channels = row.filters[-1]
        layers += [(name, ())]
    return tuple(layers)


def make_shortcut(style: Style, inputs: int | None, outputs: int, stride: int) -> Shortcut:
    """Returns the shortcut of a unit with these numbers of channels; None is the identity."""
    if style.shortcuts == "C" or (style.shortcuts == "B" and inputs != outputs):
        return conv(outputs, 1, stride, **style.projection)
    return "pad" if inputs != outputs or stride > 1 else None


# The columns of table 1, and the networks of the other two papers. Pre-activation networks have the
# same rows and `postnorm`, plain networks the same rows without shortcuts.


def resnet18(style: Style) -> Table:
    """Returns the column "18-layer"."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(2, (64, 64)),  # 56 x 56 x 64
        block2=Stage(2, (128, 128), stride=2),  # 28 x 28 x 128
        block3=Stage(2, (256, 256), stride=2),  # 14 x 14 x 256
        block4=Stage(2, (512, 512), stride=2),  # 7 x 7 x 512
        global_pool=global_avg(),  # 512
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def resnet34(style: Style) -> Table:
    """Returns the column "34-layer"."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (64, 64)),  # 56 x 56 x 64
        block2=Stage(4, (128, 128), stride=2),  # 28 x 28 x 128
        block3=Stage(6, (256, 256), stride=2),  # 14 x 14 x 256
        block4=Stage(3, (512, 512), stride=2),  # 7 x 7 x 512
        global_pool=global_avg(),  # 512
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def resnet50(style: Style) -> Table:
    """Returns the column "50-layer"."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (64, 64, 256)),  # 56 x 56 x 256
        block2=Stage(4, (128, 128, 512), stride=2),  # 28 x 28 x 512
        block3=Stage(6, (256, 256, 1024), stride=2),  # 14 x 14 x 1024
        block4=Stage(3, (512, 512, 2048), stride=2),  # 7 x 7 x 2048
        global_pool=global_avg(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def resnet101(style: Style) -> Table:
    """Returns the column "101-layer"."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (64, 64, 256)),  # 56 x 56 x 256
        block2=Stage(4, (128, 128, 512), stride=2),  # 28 x 28 x 512
        block3=Stage(23, (256, 256, 1024), stride=2),  # 14 x 14 x 1024
        block4=Stage(3, (512, 512, 2048), stride=2),  # 7 x 7 x 2048
        global_pool=global_avg(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def resnet152(style: Style) -> Table:
    """Returns the column "152-layer"."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (64, 64, 256)),  # 56 x 56 x 256
        block2=Stage(8, (128, 128, 512), stride=2),  # 28 x 28 x 512
        block3=Stage(36, (256, 256, 1024), stride=2),  # 14 x 14 x 1024
        block4=Stage(3, (512, 512, 2048), stride=2),  # 7 x 7 x 2048
        global_pool=global_avg(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def resnet200(style: Style) -> Table:
    """Returns the 200 layers of arXiv:1603.05027."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (64, 64, 256)),  # 56 x 56 x 256
        block2=Stage(24, (128, 128, 512), stride=2),  # 28 x 28 x 512
        block3=Stage(36, (256, 256, 1024), stride=2),  # 14 x 14 x 1024
        block4=Stage(3, (512, 512, 2048), stride=2),  # 7 x 7 x 2048
        global_pool=global_avg(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def wide_resnet50_2(style: Style) -> Table:
    """Returns the column "50-layer" with inner widths doubled (arXiv:1605.07146, table 8)."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (128, 128, 256)),  # 56 x 56 x 256
        block2=Stage(4, (256, 256, 512), stride=2),  # 28 x 28 x 512
        block3=Stage(6, (512, 512, 1024), stride=2),  # 14 x 14 x 1024
        block4=Stage(3, (1024, 1024, 2048), stride=2),  # 7 x 7 x 2048
        global_pool=global_avg(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


def wide_resnet101_2(style: Style) -> Table:
    """Returns the column "101-layer" with inner widths doubled."""
    return stage_table(
        style,
        conv1=style.stem,  # 112 x 112 x 64
        pool1=style.pool,  # 56 x 56 x 64
        block1=Stage(3, (128, 128, 256)),  # 56 x 56 x 256
        block2=Stage(4, (256, 256, 512), stride=2),  # 28 x 28 x 512
        block3=Stage(23, (512, 512, 1024), stride=2),  # 14 x 14 x 1024
        block4=Stage(3, (1024, 1024, 2048), stride=2),  # 7 x 7 x 2048
        global_pool=global_avg(),  # 2048
        Logits=Linear(),  # 1000
        Predictions=Softmax(),  # 1000
    )


TABLES = {
    18: resnet18, 34: resnet34, 50: resnet50, 101: resnet101, 152: resnet152, 200: resnet200,
}  # fmt: skip
WIDE_TABLES = {50: wide_resnet50_2, 101: wide_resnet101_2}


# The networks and their variants.


def build_resnet(
    depth: int,
    variant: str,
    source: str,
    unit: Unit = FACEBOOK,
    *,
    strided_kernel: StridedKernel = "3x3",
    is_wide: bool = False,
    **style: Any,
) -> Architecture:
    """Builds a ResNet with the unit of its depth.

    Args:
      depth: Number of layers; from 50 layers on the units are bottlenecks.
      variant: Name of the variant.
      source: Section of the paper, or the release that the numbers come from.
      unit: The meaning of "a convolution".
      strided_kernel: The convolution of a bottleneck that has the stride.
      is_wide: Whether the inner widths are doubled.
      **style: Other fields of `Style`.
    """
    block = partial(bottleneck, strided_kernel=strided_kernel) if depth >= 50 else basic
    name, paper = f"resnet{depth}", "arXiv:1512.03385"
    if is_wide:
        name, paper = f"wide_resnet{depth}_2", "arXiv:1605.07146"
    layers = (WIDE_TABLES if is_wide else TABLES)[depth](Style(block, **style))
    return Architecture(name, variant, layers, source, unit=unit, paper=paper)


def build_preact_resnet(
    depth: int,
    variant: str,
    source: str,
    unit: Unit = HE1K,
    *,
    linear: Any = BARE,
    is_first_preactivated: bool = True,
    class_offset: int = 0,
    **style: Any,
) -> Architecture:
    """Builds a pre-activation ResNet with the unit of its depth.

    Args:
      depth: Number of layers; from 50 layers on the units are bottlenecks.
      variant: Name of the variant.
      source: The paper, or the release that the numbers come from.
      unit: The meaning of "a convolution".
      linear: Fields of the convolutions that no norm follows in the unit.
      is_first_preactivated: Whether the first unit has a norm and an activation before its branch.
      class_offset: Number of classes before the first label.
      **style: Other fields of `Style`.
    """
    block = partial(preact_bottleneck, last_conv=linear) if depth >= 50 else preact_basic
    style = {"stem": BARE_STEM, "projection": linear, "is_preactivation": True, **style}
    conv1, pool1, (name, first), *rest = TABLES[depth](Style(block, **style))
    assert isinstance(first, Residual)
    first = replace(first, preactivation=is_first_preactivated)
    return Architecture(
        f"preact_resnet{depth}", variant, (conv1, pool1, (name, first), *rest), source, unit=unit,
        class_offset=class_offset, paper="arXiv:1603.05027",
    )  # fmt: skip


def resnet_variants(depth: int) -> Variants:
    """Returns the variants of a ResNet.

    They are torchvision's, the paper's with shortcuts B, A and C, and for bottlenecks the releases
    in Caffe, Keras and TF-Slim.
    """
    resnet = partial(build_resnet, depth)
    paper = partial(resnet, source="arXiv:1512.03385, table 1", unit=MSRA, strided_kernel="1x1")
    variants = {
        "torchvision": partial(resnet, "torchvision", "torchvision, resnet.py"),
        "paper": partial(paper, "paper"),
        "shortcut_a": partial(paper, "shortcut_a", shortcuts="A"),
        "shortcut_c": partial(paper, "shortcut_c", shortcuts="C"),
    }
    if depth < 50:
        return variants
    # The prototxt of 50 layers has a bias in the stem; those of 101 and 152 have none.
    caffe_stem = conv(64, 7, 2, bias=True) if depth == 50 else STEM
    return variants | {
        "caffe": partial(
            paper, "caffe", source="KaimingHe/deep-residual-networks", stem=caffe_stem,
            pool=max_(3, 2, "ceil"),
        ),
        "keras": partial(
            paper, "keras", source="keras, applications/resnet.py", unit=replace(KERAS, bias=True)
        ),
        "tf_slim": partial(
            resnet, "tf_slim", "tensorflow/models, slim/nets/resnet_v1.py", SLIM,
            pool=max_(3, 2, "tensorflow"), is_stride_in_last_unit=True,
        ),
    }  # fmt: skip


def plain_variants(depth: int) -> Variants:
    """Returns table 1 without shortcuts."""

    def paper() -> Architecture:
        layers = TABLES[depth](Style(plain))
        return Architecture(
            f"plain{depth}", "paper", layers, "arXiv:1512.03385, section 4.1", unit=MSRA,
            paper="arXiv:1512.03385",
        )  # fmt: skip

    return {"paper": paper}


def preact_variants(depth: int) -> Variants:
    """Returns the variants of a pre-activation ResNet.

    They are timm's, the one with facebook's stem, and for bottlenecks those with the biases and
    strides of TF-Slim and Keras.
    """
    preact = partial(build_preact_resnet, depth)
    variants = {
        "paper": partial(preact, "paper", "arXiv:1603.05027; timm, resnetv2.py"),
        "facebook": partial(
            preact, "facebook", "fb.resnet.torch, preresnet.lua", FACEBOOK, stem=STEM,
            is_first_preactivated=False,
        ),
    }  # fmt: skip
    if depth < 50:
        return variants
    biased = partial(
        preact, stem=conv(64, 7, 2, **BARE_BIASED), linear=BARE_BIASED, is_stride_in_last_unit=True
    )
    variants["tf_slim"] = partial(
        biased, "tf_slim", "tensorflow/models, slim/nets/resnet_v2.py", SLIM, class_offset=1,
        pool=max_(3, 2, "tensorflow"),
    )  # fmt: skip
    if depth <= 152:
        variants["keras"] = partial(
            biased, "keras", "keras, applications/resnet_v2.py", KERAS,
            pool=max_(3, 2, (1, 1), pad_value=0.0),
        )  # fmt: skip
    return variants


def wide_variants(depth: int) -> Variants:
    """Returns the variants of a ResNet with inner widths doubled."""
    wide = partial(build_resnet, depth, is_wide=True)
    paper = partial(wide, unit=MSRA, strided_kernel="1x1")
    return {
        "torchvision": partial(wide, "torchvision", "torchvision, resnet.py"),
        "stride_in_1x1": partial(paper, "stride_in_1x1", "arXiv:1605.07146, table 8"),
    }
