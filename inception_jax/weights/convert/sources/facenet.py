"""Sources of timesler/facenet-pytorch: `InceptionResnetV1`, David Sandberg's face embeddings."""

from dataclasses import replace

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import TORCH
from inception_jax.weights.convert.names import shift_template
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources.timm import INCEPTION_RESNET_V2

V2 = {place: layers for place, _, layers in INCEPTION_RESNET_V2.rules}
INCEPTION_RESNET_V1 = replace(
    INCEPTION_RESNET_V2,
    rules=(
        (r"Conv2d_(\d\w)_\dx\d", r"conv2d_\1", ""),
        (r"block35_(\d+)", shift_template("repeat_1.{}", -1), V2[r"block35_(\d+)"]),
        ("Mixed_6a", "mixed_6a", V2["Mixed_6a"]),
        (r"block17_(\d+)", shift_template("repeat_2.{}", -1), V2[r"block17_(\d+)"]),
        ("Mixed_7a", "mixed_7a", V2["Mixed_7a"]),
        (r"block8_(\d+)", shift_template("repeat_3.{}", -1), V2[r"block8_(\d+)"]),
        ("Mixed_8b", "block8", V2["Block8"]),
        ("Bottleneck", "", "last_linear:last_bn"),
        ("Logits", "logits", ""),
    ),
)

# The faces of VGGFace2 (8,631 people) and CASIA-Webface (10,575).
MODELS = {
    "inception_resnet_v1": SourceSpec(
        "inception_resnet_v1",
        "facenet_pytorch",
        TORCH,
        INCEPTION_RESNET_V1,
        Data(image_size=160, scaling="facenet"),
        ((8631, 0), (10575, 0)),
        class_name="person {}",
        licence="MIT (facenet-pytorch); trained on faces whose terms are for research",
    ),
}
