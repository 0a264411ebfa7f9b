"""Sources of Cadene/pretrained-models.pytorch.

They are `bninception`, `inceptionv4` and `inceptionresnetv2`.
"""

from dataclasses import replace

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import TORCH
from inception_jax.weights.convert.names import Names
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import timm
from inception_jax.weights.convert.sources.caffe import MODULE

LICENCE = (
    "BSD-3-Clause (pretrained-models.pytorch); trained on ImageNet, whose terms are for research"
)
WITH_BACKGROUND = ((1000, 0), (1001, 1))

BN_INCEPTION = Names(
    (
        ("Conv2d_1a_7x7", "conv1_7x7_s2", ""),
        ("Conv2d_2b_1x1", "conv2_3x3_reduce", ""),
        ("Conv2d_2c_3x3", "conv2_3x3", ""),
        ("Mixed_4a", "inception_3c", "3x3_reduce 3x3 double_3x3_reduce double_3x3_1 double_3x3_2"),
        ("Mixed_5a", "inception_4e", "3x3_reduce 3x3 double_3x3_reduce double_3x3_1 double_3x3_2"),
        (*MODULE, "1x1 3x3_reduce 3x3 double_3x3_reduce double_3x3_1 double_3x3_2 pool_proj"),
        ("Logits", "last_linear", ""),
    ),
    joint="_",
    norm="{}_bn",
)

INCEPTION_RESNET_V2 = replace(
    timm.INCEPTION_RESNET_V2,
    rules=tuple(
        (place, "last_linear" if place == "Logits" else there, layers)
        for place, there, layers in timm.INCEPTION_RESNET_V2.rules
    ),
)

INCEPTION = Data(image_size=299, test_crop="square", test_crop_fraction=0.875, resize="antialias")
BN = Data(
    image_size=224,
    test_crop="square",
    test_crop_fraction=0.875,
    resize="antialias",
    scaling="cadene",
)

MODELS = {
    "bn_inception": SourceSpec(
        "bn_inception", "cadene", TORCH, BN_INCEPTION, BN, blue_first=True, licence=LICENCE
    ),
    "inception_v4": SourceSpec(
        "inception_v4",
        "cadene",
        TORCH,
        timm.INCEPTION_V4,
        INCEPTION,
        WITH_BACKGROUND,
        licence=LICENCE,
    ),
    "inception_resnet_v2": SourceSpec(
        "inception_resnet_v2",
        "cadene",
        TORCH,
        INCEPTION_RESNET_V2,
        INCEPTION,
        WITH_BACKGROUND,
        licence=LICENCE,
    ),
}
