"""The networks of the family, as tables.

`REGISTRY` is a plain dict, to which a user's package adds its own networks with `register`.
"""

import difflib
import fnmatch
import warnings
from collections.abc import Callable, Mapping

from inception_jax.models import (  # isort: skip
    bn_inception, cifar, googlenet, inception_resnet, inception_v2_rethinking, inception_v3,
    inception_v4, mnist, resnet,
)  # fmt: skip
from inception_jax.spec.vocabulary import Architecture

REGISTRY: dict[str, Mapping[str, Callable[[], Architecture]]] = {
    "googlenet": {
        "paper": googlenet.paper,
        "caffe": googlenet.caffe,
        "torchvision": googlenet.torchvision,
        "tf_slim": googlenet.tf_slim,
        "batch_norm": googlenet.batch_norm,
        "separable": googlenet.separable,
        "naive": googlenet.naive,
    },
    "inception": {"paper": bn_inception.inception},
    "bn_baseline": {"paper": bn_inception.bn_baseline},
    "bn_x5": {"paper": bn_inception.bn_x5},
    "bn_x30": {"paper": bn_inception.bn_x30},
    "bn_x5_sigmoid": {"paper": bn_inception.bn_x5_sigmoid},
    "bn_inception": {
        "paper": bn_inception.paper,
        "printed": bn_inception.printed,
        "tf_slim": bn_inception.tf_slim,
        "cadene": bn_inception.cadene,
    },
    "bn_inception_small": {"paper": bn_inception.small_32px},
    "inception_v2_rethinking": {
        "paper": inception_v2_rethinking.paper,
        "stem_7x7": inception_v2_rethinking.unfactorized_7x7,
        "bn_auxiliary": inception_v2_rethinking.bn_auxiliary,
        "five_17x17": inception_v2_rethinking.five_17x17,
        "double_3x3": inception_v2_rethinking.double_3x3,
        "released_stem": inception_v2_rethinking.released_stem,
    },
    "inception_v3": {
        "released": inception_v3.released,
        "tf_slim": inception_v3.tf_slim,
        "tf_2015": inception_v3.tf_2015,
        "torchvision": inception_v3.torchvision,
        "timm": inception_v3.timm,
        "keras": inception_v3.keras,
        "fid": inception_v3.fid,
    },
    "inception_v4": {
        "paper": inception_v4.paper,
        "tf_slim": inception_v4.tf_slim,
        "timm": inception_v4.timm,
        "cadene": inception_v4.cadene,
    },
    "inception_resnet_v1": {
        "paper": inception_resnet.v1_paper,
        "facenet": inception_resnet.v1_facenet,
        "facenet_embedding": inception_resnet.v1_facenet_embedding,
        "facenet_pytorch": inception_resnet.v1_facenet_pytorch,
    },
    "inception_resnet_v2": {
        "released": inception_resnet.v2_released,
        "paper": inception_resnet.v2_paper,
        "paper_10_20_10": inception_resnet.v2_paper_deep,
        "norm_on_sum": inception_resnet.v2_norm_on_sum,
        "tf_slim": inception_resnet.v2_tf_slim,
        "keras": inception_resnet.v2_keras,
        "timm": inception_resnet.v2_timm,
        "cadene": inception_resnet.v2_cadene,
    },
    **{f"resnet{n}": resnet.resnet_variants(n) for n in (18, 34, 50, 101, 152)},
    **{f"plain{n}": resnet.plain_variants(n) for n in (18, 34)},
    **{f"preact_resnet{n}": resnet.preact_variants(n) for n in (18, 34, 50, 101, 152, 200)},
    **{f"wide_resnet{n}_2": resnet.wide_variants(n) for n in (50, 101)},
    **{f"cifar_resnet{n}": cifar.resnet_variants(n) for n in (20, 32, 44, 56, 110)},
    **{f"cifar_plain{n}": cifar.plain_variants(n) for n in (20, 32, 44, 56, 110)},
    "cifar_preact_resnet110": cifar.preact_variants(110),
    "cifar_preact_resnet164": cifar.preact_bottleneck_variants(164),
    **{f"wrn_{n}_{k}": cifar.wide_variants(n, k) for n, k in ((16, 8), (28, 10), (40, 4))},
    "mnist": {"paper": mnist.baseline},
    "mnist_bn": {"paper": mnist.batch_norm},
}
"""Name -> variant -> function that builds the architecture. The first variant is the default."""

ALIASES = {
    "inception_v1": "googlenet",
    "inceptionv1": "googlenet",
    "inception_v2": "bn_inception",
    "inceptionv2": "bn_inception",
    "bninception": "bn_inception",
    "inceptionv3": "inception_v3",
    "inceptionv4": "inception_v4",
    "inceptionresnetv1": "inception_resnet_v1",
    "inceptionresnetv2": "inception_resnet_v2",
    **{f"resnet_v1_{depth}": f"resnet{depth}" for depth in (50, 101, 152)},
    **{f"resnet_v2_{depth}": f"preact_resnet{depth}" for depth in (50, 101, 152, 200)},
    **{f"resnetv2_{depth}": f"preact_resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}v2": f"preact_resnet{depth}" for depth in (50, 101, 152)},
}
"""Alias -> name: the names of TF-Slim, Keras, timm and Cadene."""

AMBIGUOUS = {
    "inception_v2": "two networks are called Inception-v2: this is 'bn_inception' "
    "(arXiv:1502.03167), as in TF-Slim; the other is 'inception_v2_rethinking' "
    "(arXiv:1512.00567, table 1)"
}
AMBIGUOUS["inceptionv2"] = AMBIGUOUS["inception_v2"]
"""Alias that names more than one network -> the warning for its use."""


class UnknownModelError(ValueError):
    """No model or variant has this name; the message suggests the nearest names."""


def register(name: str, **variants: Callable[[], Architecture]) -> None:
    """Adds a network to the registry: `register("my_net", paper=my_table)`.

    Raises:
      ValueError: The name is taken.
    """
    if name in REGISTRY or name in ALIASES:
        raise ValueError(f"a model named {name!r} exists already; choose another name")
    REGISTRY[name] = variants


def get_architecture(name: str, variant: str | None = None) -> Architecture:
    """Builds the architecture of a registered network.

    Args:
      name: Name or alias of the network.
      variant: Name of the variant. None for the network's default.

    Raises:
      UnknownModelError: There is no such name or variant.
    """
    if name in AMBIGUOUS:
        warnings.warn(AMBIGUOUS[name], stacklevel=2)
    name = ALIASES.get(name, name)
    if name not in REGISTRY:
        raise UnknownModelError(
            f"no model is called {name!r}{_suggest(name, [*REGISTRY, *ALIASES])}"
        )
    variants = REGISTRY[name]
    variant = variant or next(iter(variants))
    if variant not in variants:
        raise UnknownModelError(
            f"{name} has no variant {variant!r}{_suggest(variant, list(variants))}"
        )
    return variants[variant]()


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names that match a pattern, then the aliases that match it.

    For example `list_models("*resnet*")`.
    """
    return [name for name in (*REGISTRY, *ALIASES) if fnmatch.fnmatchcase(name, pattern)]


def _suggest(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return (
        f"; did you mean {' or '.join(matches)}?" if matches else f"; there are {', '.join(known)}"
    )
