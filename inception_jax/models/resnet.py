"""The ResNets and what they are compared with: "Deep Residual Learning" (He et al. 2015, arXiv:1512.03385), table 1.

Pre-activation is "Identity Mappings" (arXiv:1603.05027), wide bottlenecks "Wide Residual Networks" (arXiv:1605.07146,
table 8). End points carry TF-Slim's names with `_` for `/`: `conv1`, `block1_unit_1`, `block1`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from inception_jax.models.units import PAPER, SLIM_SCALING

from inception_jax.spec.vocabulary import (  # isort: skip
    GLOROT, Architecture, Conv, Init, Linear, NormAct, Pool, Residual, Softmax, Steps, Table, Unit, conv, global_avg, max_, make_pair, same,
    table,
)  # fmt: skip

UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Units in each stage; bottlenecks from 50 layers on. 200 is arXiv:1603.05027's."""
MSRA = replace(PAPER, norm_epsilon=1e-5, same="symmetric", init=Init("normal", 2.0, "fan_in"))
HE1K = replace(MSRA, init=Init("normal", 2.0, "fan_out"))
FACEBOOK = replace(HE1K, linear_init=Init("uniform", 1 / 3, "fan_in"))
SLIM = replace(MSRA, init=SLIM_SCALING)
KERAS = replace(MSRA, norm_epsilon=1.001e-5, running_variance="biased", init=GLOROT)

LINEAR: dict[str, Any] = {"activation": "linear"}
BARE: dict[str, Any] = {"activation": "linear", "norm": False}
BARE_BIASED: dict[str, Any] = {"activation": "linear", "norm": False, "bias": True}

Shortcut = Steps | Literal["pad"] | None
Option = Literal["A", "B", "C"]
Strided = Literal["1x1", "3x3"]
Block = Callable[[int, int, Shortcut], Steps]
"""(filters, stride, shortcut) -> words."""


def plain(filters: int, stride: int, shortcut: Shortcut) -> Steps:
    """Two 3x3 and no way around them."""
    return same(filters, 3, stride), same(filters, 3)


def basic(filters: int, stride: int, shortcut: Shortcut) -> Residual:
    """Figure 5, left."""
    return Residual(
        (same(filters, 3, stride), same(filters, 3, **LINEAR)), shortcut, make_pair(stride)
    )


def bottleneck(
    filters: int, stride: int, shortcut: Shortcut, *, stride_in: Strided = "3x3", width: int = 1
) -> Residual:
    """Figure 5, right. The paper's networks stride in the first 1x1, torchvision's ("v1.5") in the 3x3."""
    first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
    inner = width * filters
    return Residual(
        (same(inner, 1, first), same(inner, 3, second), same(4 * filters, 1, **LINEAR)),
        shortcut,
        make_pair(stride),
    )


def preact_basic(filters: int, stride: int, shortcut: Shortcut) -> Residual:
    """arXiv:1603.05027, figure 1(b)."""
    return Residual(
        (same(filters, 3, stride), same(filters, 3, **BARE)),
        shortcut,
        make_pair(stride),
        preactivation=True,
        activation="linear",
    )


def preact_bottleneck(
    filters: int, stride: int, shortcut: Shortcut, *, stride_in: Strided = "3x3", last: Any = BARE
) -> Residual:
    """Figure 1(b) as a bottleneck; `last` is what the 1x1 that ends it has beside its kernel."""
    first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
    branch = (same(filters, 1, first), same(filters, 3, second), same(4 * filters, 1, **last))
    return Residual(branch, shortcut, make_pair(stride), preactivation=True, activation="linear")


def stages(
    counts: tuple[int, ...], block: Block, *, base: int = 64, stem: int = 64, expansion: int = 1,
    option: Option = "B", projection: Any = LINEAR, stride_in_last: bool = False,
) -> Table:  # fmt: skip
    """Units in stages of `base`, 2 `base`, ... filters; each stage but the first halves the grid in its first unit.

    `option` is section 4.1's: A subsamples and pads with zeros where the shape changes, B projects there, C projects
    everywhere. With `stride_in_last` each stage but the last halves the grid in its last unit (TF-Slim).
    """
    rows, channels = table(), stem
    for stage, count in enumerate(counts):
        filters = base * 2**stage
        for i in range(count):
            halves = (
                i == count - 1 and stage < len(counts) - 1
                if stride_in_last
                else i == 0 and stage > 0
            )
            stride, changes = 1 + halves, channels != expansion * filters
            projected = option == "C" or (option == "B" and changes)
            shortcut: Shortcut = "pad" if changes or halves else None
            if projected:
                shortcut = conv(expansion * filters, 1, stride, **projection)
            rows += ((f"block{stage + 1}_unit_{i + 1}", block(filters, stride, shortcut)),)
            channels = expansion * filters
        rows += ((f"block{stage + 1}", ()),)
    return rows


def classifier() -> Table:
    return table(global_pool=global_avg(), Logits=Linear(), Predictions=Softmax())


TORCH_POOL = max_(3, 2, (1, 1))
STEM = conv(64, 7, 2)


def resnet(
    depth: int, variant: str, source: str, unit: Unit = FACEBOOK, *, stem: Conv = STEM, pool: Pool = TORCH_POOL,
    stride_in: Strided = "3x3", option: Option = "B", stride_in_last: bool = False, width: int = 1,
) -> Architecture:  # fmt: skip
    expansion = 4 if depth >= 50 else 1
    block = partial(bottleneck, stride_in=stride_in, width=width) if depth >= 50 else basic
    units = stages(
        UNITS[depth], block, expansion=expansion, option=option, stride_in_last=stride_in_last
    )
    name, paper = (
        (f"resnet{depth}", "arXiv:1512.03385")
        if width == 1
        else (f"wide_resnet{depth}_{width}", "arXiv:1605.07146")
    )
    return Architecture(
        name,
        variant,
        table(conv1=stem, pool1=pool) + units + classifier(),
        source,
        unit=unit,
        paper=paper,
    )


def preact(
    depth: int, variant: str, source: str, unit: Unit = HE1K, *, stem: Conv = conv(64, 7, 2, **BARE), pool: Pool = TORCH_POOL,
    linear: Any = BARE, stride_in_last: bool = False, first_preactivation: bool = True, class_offset: int = 0,
) -> Architecture:  # fmt: skip
    expansion = 4 if depth >= 50 else 1
    block = partial(preact_bottleneck, last=linear) if depth >= 50 else preact_basic
    (name, first), *rest = stages(
        UNITS[depth], block, expansion=expansion, projection=linear, stride_in_last=stride_in_last
    )
    assert isinstance(first, Residual)
    units = ((name, replace(first, preactivation=first_preactivation)), *rest)
    layers = table(conv1=stem, pool1=pool) + units + table(postnorm=NormAct()) + classifier()
    return Architecture(
        f"preact_resnet{depth}",
        variant,
        layers,
        source,
        unit=unit,
        class_offset=class_offset,
        paper="arXiv:1603.05027",
    )


Variants = Mapping[str, Callable[[], Architecture]]


def variants(depth: int) -> Variants:
    """Of one depth: torchvision's, the paper's with shortcuts A, B and C, and three releases of the bottlenecks."""
    paper = partial(resnet, depth, source="arXiv:1512.03385, table 1", unit=MSRA, stride_in="1x1")
    forms = {
        "torchvision": partial(resnet, depth, "torchvision", "torchvision, resnet.py"),
        "paper": partial(paper, "paper"),
        "shortcut_a": partial(paper, "shortcut_a", option="A"),
        "shortcut_c": partial(paper, "shortcut_c", option="C"),
    }
    if depth < 50:
        return forms
    stem = (
        conv(64, 7, 2, bias=True) if depth == 50 else STEM
    )  # the prototxt of 50 has a bias there, 101 and 152 have none
    caffe = partial(
        paper,
        "caffe",
        source="KaimingHe/deep-residual-networks",
        stem=stem,
        pool=max_(3, 2, "ceil"),
    )
    keras = partial(
        paper, "keras", source="keras, applications/resnet.py", unit=replace(KERAS, bias=True)
    )
    slim = partial(
        resnet,
        depth,
        "tf_slim",
        "tensorflow/models, slim/nets/resnet_v1.py",
        SLIM,
        pool=max_(3, 2, "tensorflow"),
    )
    return forms | {"caffe": caffe, "keras": keras, "tf_slim": partial(slim, stride_in_last=True)}


def plain_variants(depth: int) -> Variants:
    """Table 1 without shortcuts."""

    def paper() -> Architecture:
        layers = table(conv1=STEM, pool1=TORCH_POOL) + stages(UNITS[depth], plain) + classifier()
        return Architecture(
            f"plain{depth}",
            "paper",
            layers,
            "arXiv:1512.03385, section 4.1",
            unit=MSRA,
            paper="arXiv:1512.03385",
        )

    return {"paper": paper}


def preact_variants(depth: int) -> Variants:
    """Of one depth: as timm has it, with facebook's stem, and TF-Slim's and Keras's biases and strides."""
    forms = {
        "paper": partial(preact, depth, "paper", "arXiv:1603.05027; timm, resnetv2.py"),
        "facebook": partial(
            preact,
            depth,
            "facebook",
            "fb.resnet.torch, preresnet.lua",
            FACEBOOK,
            stem=STEM,
            first_preactivation=False,
        ),
    }
    if depth < 50:
        return forms
    biased = {"stem": conv(64, 7, 2, **BARE_BIASED), "linear": BARE_BIASED, "stride_in_last": True}
    slim = partial(
        preact, depth, "tf_slim", "tensorflow/models, slim/nets/resnet_v2.py", SLIM, class_offset=1
    )
    forms["tf_slim"] = partial(slim, pool=max_(3, 2, "tensorflow"), **biased)
    if depth <= 152:
        keras = partial(preact, depth, "keras", "keras, applications/resnet_v2.py", KERAS)
        forms["keras"] = partial(keras, pool=max_(3, 2, (1, 1), pad_value=0.0), **biased)
    return forms


def wide_variants(depth: int) -> Variants:
    """Inner widths doubled."""
    return {
        "torchvision": partial(resnet, depth, "torchvision", "torchvision, resnet.py", width=2),
        "stride_in_1x1": partial(
            resnet,
            depth,
            "stride_in_1x1",
            "arXiv:1605.07146, table 8",
            MSRA,
            stride_in="1x1",
            width=2,
        ),
    }
