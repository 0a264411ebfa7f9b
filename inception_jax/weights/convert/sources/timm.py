"""Sources of timm.

They are `inception_v3`, `inception_v4`, `inception_resnet_v2`, `resnet*` and `resnetv2_*`.
"""

import re
from dataclasses import replace

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import TORCH
from inception_jax.weights.convert.names import Names, shift_template
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import torchvision

LICENCE = "Apache-2.0 (timm); trained on ImageNet, whose terms are for research"

FEATURES = [
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Mixed_3a", "Mixed_4a", "Mixed_5a"),
    *(
        f"Mixed_{stage}{letter}"
        for stage, letters in ((5, "bcde"), (6, "abcdefgh"), (7, "abcd"))
        for letter in letters
    ),
]
"""The end points of Inception-v4, which has numbers for them."""


def name_feature(match: re.Match[str]) -> str:
    """Returns the name of a numbered feature of timm's Inception-v4."""
    return f"features.{FEATURES.index(match[0])}"


INCEPTION_V4 = Names(
    (
        (r"Conv2d_\w+", name_feature, ""),
        ("Mixed_3a|Mixed_5a", name_feature, "conv"),
        ("Mixed_4a", name_feature, "branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3"),
        (
            r"Mixed_5\w",
            name_feature,
            "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1",
        ),
        ("Mixed_6a", name_feature, "branch0 branch1.0 branch1.1 branch1.2"),
        (
            r"Mixed_6\w",
            name_feature,
            "branch0 branch1.0 branch1.1 branch1.2 branch2.0 branch2.1 branch2.2 branch2.3 "
            "branch2.4 branch3.1",
        ),
        ("Mixed_7a", name_feature, "branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3"),
        (
            r"Mixed_7\w",
            name_feature,
            "branch0 branch1_0 branch1_1a branch1_1b branch2_0 branch2_1 branch2_2 branch2_3a "
            "branch2_3b branch3.1",
        ),
        ("Logits", "last_linear", ""),
    ),
    convolution="{}.conv",
    norm="{}.bn",
)

INCEPTION_RESNET_V2 = Names(
    (
        (r"Conv2d_(\d\w)_\dx\d", r"conv2d_\1", ""),
        (
            "Mixed_5b",
            "mixed_5b",
            "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1",
        ),
        (
            r"block35_(\d+)",
            shift_template("repeat.{}", -1),
            "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 conv2d",
        ),
        ("Mixed_6a", "mixed_6a", "branch0 branch1.0 branch1.1 branch1.2"),
        (
            r"block17_(\d+)",
            shift_template("repeat_1.{}", -1),
            "branch0 branch1.0 branch1.1 branch1.2 conv2d",
        ),
        (
            "Mixed_7a",
            "mixed_7a",
            "branch0.0 branch0.1 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2",
        ),
        (
            r"block8_(\d+)",
            shift_template("repeat_2.{}", -1),
            "branch0 branch1.0 branch1.1 branch1.2 conv2d",
        ),
        ("Block8", "block8", "branch0 branch1.0 branch1.1 branch1.2 conv2d"),
        ("Logits", "classif", ""),
    ),
    convolution="{}.conv",
    norm="{}.bn",
)

RESNET_V2 = Names(
    (
        ("conv1", "stem.conv", ""),
        (
            r"block(\d)_unit_(\d+)",
            shift_template("stages.{}.blocks.{}", -1, -1),
            ":norm1 conv1:norm2 conv2:norm3 conv3 shortcut=downsample.conv",
        ),
        ("postnorm", "norm", ""),
        ("Logits", "head.fc", ""),
    )
)
BASIC_RESNET_V2 = Names(
    tuple(
        (place, there, layers.replace(":norm3 conv3", ""))
        for place, there, layers in RESNET_V2.rules
    )
)

INCEPTION = Data(
    image_size=299, test_crop="square", test_crop_fraction=0.875, resize="bicubic_antialias"
)
RESNET = Data(
    image_size=224,
    test_crop="square",
    test_crop_fraction=0.95,
    resize="bicubic_antialias",
    scaling="imagenet",
)
RESNET_V2_DATA = replace(RESNET, scaling="inception")


def make_spec(
    model: str, variant: str, names: Names, data: Data = INCEPTION, as_kernel: str = "(?!)"
) -> SourceSpec:
    """Returns the specification of a network of this project."""
    return SourceSpec(model, variant, TORCH, names, data, as_kernel=as_kernel, licence=LICENCE)


RESNETS_V2 = {
    f"preact_resnet{depth}": BASIC_RESNET_V2 if depth < 50 else RESNET_V2
    for depth in (18, 34, 50, 101, 152)
}
MODELS = {
    "inception_v3": make_spec("inception_v3", "timm", torchvision.INCEPTION_V3),
    "inception_v4": make_spec("inception_v4", "timm", INCEPTION_V4),
    "inception_resnet_v2": make_spec(
        "inception_resnet_v2",
        "timm",
        INCEPTION_RESNET_V2,
        replace(INCEPTION, test_crop_fraction=0.8975),
    ),
    **{
        name: replace(there, data=RESNET, licence=LICENCE)
        for name, there in torchvision.MODELS.items()
        if "resnet" in name
    },
    **{
        name: make_spec(name, "paper", names, RESNET_V2_DATA, r"^head\.fc$")
        for name, names in RESNETS_V2.items()
    },
}
