"""Caffe: BVLC's `bvlc_googlenet` and Kaiming He's ResNet-50, 101 and 152."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import CAFFE
from inception_jax.weights.convert.names import Names, shift_template
from inception_jax.weights.convert.source_spec import SourceSpec


def name_unit(depth: int, match: re.Match[str]) -> str:
    """Returns the name of a unit: `2a`, `2b`, ...; `3b1`, `3b2`, ... in the long stages.

    The long stages are the third and fourth of the networks of 101 and 152 layers.
    """
    stage, number = int(match[1]) + 1, int(match[2]) - 1
    if depth > 50 and stage in (3, 4) and number:
        return f"{stage}b{number}"
    return f"{stage}{chr(ord('a') + number)}"


MODULE = (r"Mixed_(\d)(\w)", shift_template("inception_{}{}", 0, -1))

GOOGLENET = Names(
    (
        ("Conv2d_1a_7x7", "conv1/7x7_s2", ""),
        ("Conv2d_2b_1x1", "conv2/3x3_reduce", ""),
        ("Conv2d_2c_3x3", "conv2/3x3", ""),
        (*MODULE, "1x1 3x3_reduce 3x3 5x5_reduce 5x5 pool_proj"),
        ("Logits", "loss3/classifier", ""),
        ("Aux_Mixed_4b", "loss1", "conv fc classifier"),
        ("Aux_Mixed_4e", "loss2", "conv fc classifier"),
    ),
    joint="/",
)


def make_resnet_names(depth: int) -> Names:
    """Returns the names of He's ResNet of `depth` layers."""
    layers = [
        f"res@_branch{part}:bn@_branch{part}|scale@_branch{part}"
        for part in ("2a", "2b", "2c", "1")
    ]
    layers[-1] = f"shortcut={layers[-1]}"
    rule = (r"block(\d)_unit_(\d+)", partial(name_unit, depth), " ".join(layers))
    return Names((("conv1", "", "conv1:bn_conv1|scale_conv1"), rule, ("Logits", "fc1000", "")))


# He's images are less the mean of each pixel of ImageNet (ResNet_mean.binaryproto), not of each
# channel: `caffe` comes close to it.


CROP = Data(image_size=224, test_crop="square", test_crop_fraction=224 / 256, resize="bilinear")


def make_spec(model: str, names: Names, scaling: Any, licence: str) -> SourceSpec:
    """Returns the specification of a network of this project."""
    data = replace(CROP, scaling=scaling)
    return SourceSpec(model, "caffe", CAFFE, names, data, blue_first=True, licence=licence)


HE = "MIT (KaimingHe/deep-residual-networks)"
MODELS = {
    "googlenet": make_spec("googlenet", GOOGLENET, "googlenet", "unrestricted (BVLC's model zoo)"),
    **{
        f"resnet{depth}": make_spec(f"resnet{depth}", make_resnet_names(depth), "caffe", HE)
        for depth in (50, 101, 152)
    },
}
