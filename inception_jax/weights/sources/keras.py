"""keras.applications: `InceptionV3`, `InceptionResNetV2`, `ResNet50` ... `ResNet152`, `ResNet50V2` ... `ResNet152V2`."""

import re

from inception_jax.config import Data
from inception_jax.weights.frameworks import KERAS
from inception_jax.weights.names import Names
from inception_jax.weights.origin import Origin

LICENCE = "Apache-2.0 (Keras); the ResNets are Kaiming He's weights (MIT). Trained on ImageNet, whose terms are for research"
UNNAMED = "conv2d#:batch_normalization# "


def unit(match: re.Match[str]) -> str:
    return f"conv{int(match[1]) + 1}_block{match[2]}"


INCEPTION_V3 = Names(
    (
        (r"Conv2d_\w+", "", UNNAMED),
        ("Mixed_5[bcd]", "", UNNAMED * 7),
        ("Mixed_6a", "", UNNAMED * 4),
        ("Mixed_6[b-e]", "", UNNAMED * 10),
        ("Mixed_7a", "", UNNAMED * 6),
        ("Mixed_7[bc]", "", UNNAMED * 9),
        ("Logits", "predictions", ""),
    )
)

INCEPTION_RESNET_V2 = Names(
    (
        ("Conv2d_7b_1x1", "", "conv_7b:conv_7b_bn"),
        (r"Conv2d_\w+", "", UNNAMED),
        ("Mixed_5b", "", UNNAMED * 7),
        (r"block35_\d+", r"\g<0>", UNNAMED * 6 + "@_conv"),
        ("Mixed_6a", "", UNNAMED * 4),
        (r"block17_\d+", r"\g<0>", UNNAMED * 4 + "@_conv"),
        ("Mixed_7a", "", UNNAMED * 7),
        (r"block8_\d+", r"\g<0>", UNNAMED * 4 + "@_conv"),
        ("Block8", "block8_10", UNNAMED * 4 + "@_conv"),
        ("Logits", "predictions", ""),
    )
)

RESNET = Names(
    (
        ("conv1", "", "conv1_conv:conv1_bn"),
        (r"block(\d)_unit_(\d+)", unit, "@_1_conv:@_1_bn @_2_conv:@_2_bn @_3_conv:@_3_bn shortcut=@_0_conv:@_0_bn"),
        ("Logits", "predictions", ""),
    )
)

RESNET_V2 = Names(
    (
        ("conv1", "", "conv1_conv"),
        (r"block(\d)_unit_(\d+)", unit, ":@_preact_bn @_1_conv:@_1_bn @_2_conv:@_2_bn @_3_conv shortcut=@_0_conv"),
        ("postnorm", "", ":post_bn"),
        ("Logits", "predictions", ""),
    )
)

INCEPTION = Data(image_size=299, test_crop="square", test_crop_fraction=0.875, resize="bilinear")
CAFFE = Data(image_size=224, test_crop="square", test_crop_fraction=0.875, resize="bilinear", scaling="caffe")

MODELS = {
    "inception_v3": Origin("inception_v3", "keras", KERAS, INCEPTION_V3, INCEPTION, licence=LICENCE),
    "inception_resnet_v2": Origin("inception_resnet_v2", "keras", KERAS, INCEPTION_RESNET_V2, INCEPTION, licence=LICENCE),
    **{
        f"resnet{depth}": Origin(f"resnet{depth}", "keras", KERAS, RESNET, CAFFE, blue_first=True, licence=LICENCE)
        for depth in (50, 101, 152)
    },
    **{
        f"preact_resnet{depth}": Origin(f"preact_resnet{depth}", "keras", KERAS, RESNET_V2, INCEPTION, licence=LICENCE)
        for depth in (50, 101, 152)
    },
}
