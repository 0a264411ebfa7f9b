"""Sources of TF-Slim's checkpoints (tensorflow/models, research/slim).

They are `inception_v1` to `inception_v4`, `inception_resnet_v2`, `resnet_v1_*` and `resnet_v2_*`.
"""

from dataclasses import replace

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import TF_SLIM
from inception_jax.weights.convert.names import Names
from inception_jax.weights.convert.source_spec import SourceSpec

LICENCE = "Apache-2.0 (tensorflow/models); trained on ImageNet, whose terms are for research"
OFFSETS = ((1000, 0), (1001, 1))


def name_scopes(branches: str) -> str:
    """Returns the scopes of the convolutions of branches: `0a_1x1 0b_3x3 | 0b_1x1` for two."""
    return " ".join(
        f"Branch_{i}/Conv2d_{name}"
        for i, branch in enumerate(branches.split("|"))
        for name in branch.split()
    )


def make_names(net: str, *rules: tuple[str, str, str]) -> Names:
    """Returns the names of a network of TF-Slim."""
    return Names(
        ((r"Conv2d_\w+", r"\g<0>", ""), *rules), joint="/", prefix=f"{net}/", norm="{}/BatchNorm"
    )


INCEPTION_V1 = make_names(
    "InceptionV1",
    (
        "Mixed_5b",
        r"\g<0>",
        name_scopes("0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0a_3x3 | 0b_1x1"),
    ),  # the second 0a is no slip of ours
    (r"Mixed_\w+", r"\g<0>", name_scopes("0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 | 0b_1x1")),
    ("Logits", r"\g<0>", "Conv2d_0c_1x1"),
)

INCEPTION_V2 = make_names(
    "InceptionV2",
    ("Mixed_4a|Mixed_5a", r"\g<0>", name_scopes("0a_1x1 1a_3x3 | 0a_1x1 0b_3x3 1a_3x3")),
    (r"Mixed_\w+", r"\g<0>", name_scopes("0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1")),
    ("Logits", r"\g<0>", "Conv2d_1c_1x1"),
)

INCEPTION_V3 = make_names(
    "InceptionV3",
    (
        "Mixed_5c",
        r"\g<0>",
        name_scopes("0a_1x1 | 0b_1x1 0c_5x5 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1").replace(
            "Conv2d_0c_5x5", "Conv_1_0c_5x5"
        ),
    ),
    (r"Mixed_5\w", r"\g<0>", name_scopes("0a_1x1 | 0a_1x1 0b_5x5 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1")),
    ("Mixed_6a", r"\g<0>", name_scopes("1a_1x1 | 0a_1x1 0b_3x3 1a_1x1")),
    (
        r"Mixed_6\w",
        r"\g<0>",
        name_scopes("0a_1x1 | 0a_1x1 0b_1x7 0c_7x1 | 0a_1x1 0b_7x1 0c_1x7 0d_7x1 0e_1x7 | 0b_1x1"),
    ),
    ("Mixed_7a", r"\g<0>", name_scopes("0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3")),
    (
        "Mixed_7b",
        r"\g<0>",
        name_scopes("0a_1x1 | 0a_1x1 0b_1x3 0b_3x1 | 0a_1x1 0b_3x3 0c_1x3 0d_3x1 | 0b_1x1"),
    ),
    (
        "Mixed_7c",
        r"\g<0>",
        name_scopes("0a_1x1 | 0a_1x1 0b_1x3 0c_3x1 | 0a_1x1 0b_3x3 0c_1x3 0d_3x1 | 0b_1x1"),
    ),
    ("Logits", r"\g<0>", "Conv2d_1c_1x1"),
    ("AuxLogits", r"\g<0>", "Conv2d_1b_1x1 Conv2d_2a_5x5 Conv2d_2b_1x1"),
)

INCEPTION_V4 = make_names(
    "InceptionV4",
    ("Mixed_3a", r"\g<0>", "Branch_1/Conv2d_0a_3x3"),
    ("Mixed_4a", r"\g<0>", name_scopes("0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3")),
    ("Mixed_5a", r"\g<0>", "Branch_0/Conv2d_1a_3x3"),
    (r"Mixed_5\w", r"\g<0>", name_scopes("0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1")),
    ("Mixed_6a", r"\g<0>", name_scopes("1a_3x3 | 0a_1x1 0b_3x3 1a_3x3")),
    (
        r"Mixed_6\w",
        r"\g<0>",
        name_scopes("0a_1x1 | 0a_1x1 0b_1x7 0c_7x1 | 0a_1x1 0b_7x1 0c_1x7 0d_7x1 0e_1x7 | 0b_1x1"),
    ),
    ("Mixed_7a", r"\g<0>", name_scopes("0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3")),
    (
        r"Mixed_7\w",
        r"\g<0>",
        name_scopes("0a_1x1 | 0a_1x1 0b_1x3 0c_3x1 | 0a_1x1 0b_3x1 0c_1x3 0d_1x3 0e_3x1 | 0b_1x1"),
    ),
    ("Logits", r"\g<0>", "Logits"),
    ("AuxLogits", r"\g<0>", "Conv2d_1b_1x1 Conv2d_2a Aux_logits"),
)

INCEPTION_RESNET_V2 = make_names(
    "InceptionResnetV2",
    ("Mixed_5b", r"\g<0>", name_scopes("1x1 | 0a_1x1 0b_5x5 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1")),
    (
        r"block35_\d+",
        r"Repeat/\g<0>",
        name_scopes("1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3") + " Conv2d_1x1",
    ),
    ("Mixed_6a", r"\g<0>", name_scopes("1a_3x3 | 0a_1x1 0b_3x3 1a_3x3")),
    (r"block17_\d+", r"Repeat_1/\g<0>", name_scopes("1x1 | 0a_1x1 0b_1x7 0c_7x1") + " Conv2d_1x1"),
    ("Mixed_7a", r"\g<0>", name_scopes("0a_1x1 1a_3x3 | 0a_1x1 1a_3x3 | 0a_1x1 0b_3x3 1a_3x3")),
    (r"block8_\d+", r"Repeat_2/\g<0>", name_scopes("1x1 | 0a_1x1 0b_1x3 0c_3x1") + " Conv2d_1x1"),
    ("Block8", r"\g<0>", name_scopes("1x1 | 0a_1x1 0b_1x3 0c_3x1") + " Conv2d_1x1"),
    ("Logits", r"\g<0>", "Logits"),
    ("AuxLogits", r"\g<0>", "Conv2d_1b_1x1 Conv2d_2a_5x5 Logits"),
)


def make_resnet_names(version: int, depth: int) -> Names:
    """Returns the names of a ResNet of version 1 or 2."""
    layers = ":preact " * (version == 2) + "conv1 conv2 conv3 shortcut=shortcut"
    unit = (r"block(\d)_unit_(\d+)", rf"block\1/unit_\2/bottleneck_v{version}", layers)
    ends = (("conv1", "conv1", ""), ("postnorm", "", ":postnorm"), ("Logits", "logits", ""))
    return make_names(f"resnet_v{version}_{depth}", unit, *ends)


def make_spec(model: str, names: Names, data: Data) -> SourceSpec:
    """Returns the specification of a network of this project."""
    return SourceSpec(
        model,
        "tf_slim",
        TF_SLIM,
        names,
        data,
        OFFSETS,
        as_kernel="/Conv2d_[0-9a-z]+_1x1$|/logits$",
        licence=LICENCE,
    )


INCEPTION = Data(
    image_size=299, test_crop="central", test_crop_fraction=0.875, resize="tf1_bilinear"
)
INCEPTION_224 = replace(INCEPTION, image_size=224)
VGG = Data(
    image_size=224,
    test_crop="square",
    test_crop_fraction=224 / 256,
    resize="tf1_bilinear",
    scaling="vgg",
)

MODELS = {
    "googlenet": make_spec("googlenet", INCEPTION_V1, INCEPTION_224),
    "bn_inception": make_spec("bn_inception", INCEPTION_V2, INCEPTION_224),
    "inception_v3": make_spec("inception_v3", INCEPTION_V3, INCEPTION),
    "inception_v4": make_spec("inception_v4", INCEPTION_V4, INCEPTION),
    "inception_resnet_v2": make_spec("inception_resnet_v2", INCEPTION_RESNET_V2, INCEPTION),
    **{
        f"resnet{depth}": make_spec(f"resnet{depth}", make_resnet_names(1, depth), VGG)
        for depth in (50, 101, 152)
    },
    # Scored at 299 pixels, though trained at 224.
    **{
        f"preact_resnet{depth}": make_spec(
            f"preact_resnet{depth}", make_resnet_names(2, depth), INCEPTION
        )
        for depth in (50, 101, 152, 200)
    },
}
