"""Sources of keras.applications.

They are `InceptionV3`, `InceptionResNetV2` and `ResNet50` to `ResNet152V2`.
"""

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import KERAS
from inception_jax.weights.convert.names import Names, shift_template
from inception_jax.weights.convert.source_spec import SourceSpec

LICENCE = (
    "Apache-2.0 (Keras); the ResNets are Kaiming He's weights (MIT). Trained on ImageNet, whose "
    "terms are for research"
)
UNNAMED = "conv2d#:batch_normalization# "

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

UNIT = (r"block(\d)_unit_(\d+)", shift_template("conv{}_block{}", 1, 0))
RESNET = Names(
    (
        ("conv1", "", "conv1_conv:conv1_bn"),
        (*UNIT, "@_1_conv:@_1_bn @_2_conv:@_2_bn @_3_conv:@_3_bn shortcut=@_0_conv:@_0_bn"),
        ("Logits", "predictions", ""),
    )
)

RESNET_V2 = Names(
    (
        ("conv1", "", "conv1_conv"),
        (*UNIT, ":@_preact_bn @_1_conv:@_1_bn @_2_conv:@_2_bn @_3_conv shortcut=@_0_conv"),
        ("postnorm", "", ":post_bn"),
        ("Logits", "predictions", ""),
    )
)

INCEPTION = Data(image_size=299, test_crop="square", test_crop_fraction=0.875, resize="bilinear")
CAFFE = Data(
    image_size=224, test_crop="square", test_crop_fraction=0.875, resize="bilinear", scaling="caffe"
)


def make_spec(
    model: str, names: Names, data: Data = INCEPTION, blue_first: bool = False
) -> SourceSpec:
    """Returns the specification of a network of this project."""
    return SourceSpec(model, "keras", KERAS, names, data, blue_first=blue_first, licence=LICENCE)


MODELS = {
    "inception_v3": make_spec("inception_v3", INCEPTION_V3),
    "inception_resnet_v2": make_spec("inception_resnet_v2", INCEPTION_RESNET_V2),
    **{
        f"resnet{depth}": make_spec(f"resnet{depth}", RESNET, CAFFE, blue_first=True)
        for depth in (50, 101, 152)
    },
    **{
        f"preact_resnet{depth}": make_spec(f"preact_resnet{depth}", RESNET_V2)
        for depth in (50, 101, 152)
    },
}
