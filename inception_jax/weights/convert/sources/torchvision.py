"""Sources of torchvision.models: `googlenet`, `inception_v3`, `resnet*`, `wide_resnet*`."""

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import TORCH
from inception_jax.weights.convert.names import Names, shift_template
from inception_jax.weights.convert.source_spec import SourceSpec

LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms are for research"


GOOGLENET = Names(
    (
        ("Conv2d_1a_7x7", "conv1", ""),
        ("Conv2d_2b_1x1", "conv2", ""),
        ("Conv2d_2c_3x3", "conv3", ""),
        (
            r"Mixed_(\d)(\w)",
            shift_template("inception{}{}", 0, -1),
            "branch1 branch2.0 branch2.1 branch3.0 branch3.1 branch4.1",
        ),
        ("Logits", "fc", ""),
        ("Aux_Mixed_4b", "aux1", "conv fc1 fc2"),
        ("Aux_Mixed_4e", "aux2", "conv fc1 fc2"),
    ),
    convolution="{}.conv",
    norm="{}.bn",
)

INCEPTION_V3 = Names(
    (
        (r"Conv2d_\w+", r"\g<0>", ""),
        (
            r"Mixed_5\w",
            r"\g<0>",
            "branch1x1 branch5x5_1 branch5x5_2 "
            "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
        ),
        ("Mixed_6a", r"\g<0>", "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"),
        (
            r"Mixed_6\w",
            r"\g<0>",
            "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 "
            "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5 "
            "branch_pool",
        ),
        (
            "Mixed_7a",
            r"\g<0>",
            "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
        ),
        (
            r"Mixed_7\w",
            r"\g<0>",
            "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 "
            "branch3x3dbl_3a branch3x3dbl_3b branch_pool",
        ),
        ("Logits", "fc", ""),
        ("AuxLogits", r"\g<0>", "conv0 conv1 fc"),
    ),
    convolution="{}.conv",
    norm="{}.bn",
)

RESNET = Names(
    (
        ("conv1", "", "conv1:bn1"),
        (
            r"block(\d)_unit_(\d+)",
            shift_template("layer{}.{}", 0, -1),
            "conv1:bn1 conv2:bn2 conv3:bn3 shortcut=downsample.0:downsample.1",
        ),
        ("Logits", "fc", ""),
    )
)
BASIC_RESNET = Names(
    tuple((place, there, layers.replace(" conv3:bn3", "")) for place, there, layers in RESNET.rules)
)

IMAGENET = Data(
    image_size=224,
    test_crop="square",
    test_crop_fraction=224 / 256,
    resize="antialias",
    scaling="imagenet",
)
# `transform_input` turns ImageNet's scaling into Inception's, inside the network: ours is given
# that at once.
INCEPTION_224 = Data(
    image_size=224, test_crop="square", test_crop_fraction=224 / 256, resize="antialias"
)
INCEPTION_299 = Data(
    image_size=299, test_crop="square", test_crop_fraction=299 / 342, resize="antialias"
)


def make_spec(model: str, names: Names, data: Data = IMAGENET) -> SourceSpec:
    """Returns the specification of a network of this project."""
    return SourceSpec(model, "torchvision", TORCH, names, data, licence=LICENCE)


MODELS = {
    "googlenet": make_spec("googlenet", GOOGLENET, INCEPTION_224),
    "inception_v3": make_spec("inception_v3", INCEPTION_V3, INCEPTION_299),
    **{
        f"resnet{depth}": make_spec(f"resnet{depth}", BASIC_RESNET if depth < 50 else RESNET)
        for depth in (18, 34, 50, 101, 152)
    },
    **{f"wide_resnet{depth}_2": make_spec(f"wide_resnet{depth}_2", RESNET) for depth in (50, 101)},
}
