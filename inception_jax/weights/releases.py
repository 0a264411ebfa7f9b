"""Files that projects have published, with the accuracy that they state for them: single crop, on ImageNet's 50,000 validation images.

A file is known by the beginning of its SHA-256, which is in the names of PyTorch's, or else by its name.
"""

from dataclasses import dataclass, replace
from typing import Any

from inception_jax.config import Data


@dataclass(frozen=True)
class Release:
    """`known_by` is the beginning of a hash or a part of a file's name; `top1` and `top5` are in percent; `data` changes what is fed."""

    source: str
    model: str
    known_by: str
    top1: float
    top5: float
    data: tuple[tuple[str, Any], ...] = ()


AT_232 = (("test_crop_fraction", 224 / 232),)

RELEASES = (
    Release("torchvision", "googlenet", "1378be20", 69.778, 89.530),
    Release("torchvision", "inception_v3", "0cc3c7bd", 77.294, 93.450),
    Release("torchvision", "resnet18", "f37072fd", 69.758, 89.078),
    Release("torchvision", "resnet34", "b627a593", 73.314, 91.420),
    Release("torchvision", "resnet50", "0676ba61", 76.130, 92.862),
    Release("torchvision", "resnet50", "11ad3fa6", 80.858, 95.434, AT_232),
    Release("torchvision", "resnet101", "63fe2227", 77.374, 93.546),
    Release("torchvision", "resnet101", "cd907fc2", 81.886, 95.780, AT_232),
    Release("torchvision", "resnet152", "394f9c45", 78.312, 94.046),
    Release("torchvision", "resnet152", "f82ba261", 82.284, 96.002, AT_232),
    Release("torchvision", "wide_resnet50_2", "95faca4d", 78.468, 94.086),
    Release("torchvision", "wide_resnet50_2", "9ba9bcbe", 81.602, 95.758, AT_232),
    Release("timm", "inception_v3", "inception_v3.tv_in1k", 77.472, 93.468),
    Release("timm", "inception_v3", "inception_v3.tf_in1k", 77.866, 93.644),
    Release("timm", "inception_v3", "inception_v3.tf_adv_in1k", 77.598, 93.726),
    Release("timm", "inception_v3", "inception_v3.gluon_in1k", 78.806, 94.372, (("scaling", "imagenet"),)),
    Release("timm", "inception_v4", "inception_v4.tf_in1k", 80.144, 94.982),
    Release("timm", "inception_resnet_v2", "inception_resnet_v2.tf_in1k", 80.434, 95.312),
    Release("timm", "inception_resnet_v2", "inception_resnet_v2.tf_ens_adv_in1k", 79.998, 94.940),
    Release("timm", "preact_resnet50", "resnetv2_50.a1h_in1k", 80.410, 95.082),
    Release("timm", "preact_resnet101", "resnetv2_101.a1h_in1k", 82.042, 95.866),
    Release("tf_slim", "googlenet", "inception_v1", 69.8, 89.6),
    Release("tf_slim", "bn_inception", "inception_v2", 73.9, 91.8),
    Release("tf_slim", "inception_v3", "inception_v3", 78.0, 93.9),
    Release("tf_slim", "inception_v4", "inception_v4", 80.2, 95.2),
    Release("tf_slim", "inception_resnet_v2", "inception_resnet_v2", 80.4, 95.3),
    Release("tf_slim", "resnet50", "resnet_v1_50", 75.2, 92.2),
    Release("tf_slim", "resnet101", "resnet_v1_101", 76.4, 92.9),
    Release("tf_slim", "resnet152", "resnet_v1_152", 76.8, 93.2),
    Release("tf_slim", "preact_resnet50", "resnet_v2_50", 75.6, 92.8),
    Release("tf_slim", "preact_resnet101", "resnet_v2_101", 77.0, 93.7),
    Release("tf_slim", "preact_resnet152", "resnet_v2_152", 77.8, 94.1),
    Release("keras", "inception_v3", "inception_v3_weights_tf_dim_ordering_tf_kernels", 77.898, 93.720),
    Release("keras", "inception_resnet_v2", "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels", 80.256, 95.252),
    Release("keras", "resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels", 74.928, 92.060),
    Release("keras", "resnet101", "resnet101_weights_tf_dim_ordering_tf_kernels", 76.420, 92.786),
    Release("keras", "resnet152", "resnet152_weights_tf_dim_ordering_tf_kernels", 76.604, 93.118),
    Release("keras", "preact_resnet50", "resnet50v2_weights_tf_dim_ordering_tf_kernels", 75.960, 93.034),
    Release("keras", "preact_resnet101", "resnet101v2_weights_tf_dim_ordering_tf_kernels", 77.234, 93.816),
    Release("keras", "preact_resnet152", "resnet152v2_weights_tf_dim_ordering_tf_kernels", 78.032, 94.162),
    Release("caffe", "googlenet", "bvlc_googlenet", 68.7, 88.9),
    Release("caffe", "resnet50", "ResNet-50-model", 75.3, 92.2),
    Release("caffe", "resnet101", "ResNet-101-model", 76.4, 92.9),
    Release("caffe", "resnet152", "ResNet-152-model", 77.0, 93.3),
    Release("cadene", "bn_inception", "bn_inception-", 73.524, 91.562),
    Release("cadene", "inception_v4", "inceptionv4-", 80.062, 94.926),
    Release("cadene", "inception_resnet_v2", "inceptionresnetv2-", 80.170, 95.234),
)


def known(source: str, model: str, file: str, sha256: str) -> Release | None:
    """The release that a file is; None where it is not known."""
    own = [release for release in RELEASES if (release.source, release.model) == (source, model)]
    by_hash = (release for release in own if sha256.startswith(release.known_by))
    by_name = (release for release in own if not _is_hash(release.known_by) and file.startswith(release.known_by))
    return next(by_hash, None) or next(by_name, None)


def published(release: Release) -> dict[str, Any]:
    """For a card: fractions, and how the file was known."""
    how = "its SHA-256" if _is_hash(release.known_by) else "its name"
    return {"top1": round(release.top1 / 100, 5), "top5": round(release.top5 / 100, 5), "known_by": how}


def fed(release: Release | None, data: Data) -> Data:
    """What the release is fed, where that is not what its project feeds the network otherwise."""
    return replace(data, **dict(release.data)) if release else data


def _is_hash(text: str) -> bool:
    return len(text) == 8 and set(text) <= set("0123456789abcdef")
