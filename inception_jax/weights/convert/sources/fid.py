"""Source of mseitzer/pytorch-fid: the network of 2015-12-05 that defines FID."""

from inception_jax.config import Data
from inception_jax.weights.convert.frameworks import TORCH
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import torchvision

# The graph's 1008 outputs begin with a background, and end in seven that no class uses.
MODELS = {
    "inception_v3": SourceSpec(
        "inception_v3",
        "fid",
        TORCH,
        torchvision.INCEPTION_V3,
        Data(image_size=299, resize="bilinear"),
        ((1008, 1),),
        licence="Apache-2.0 (TensorFlow's inception-2015-12-05)",
    ),
}
