"""Claims of the founding documents about cost and size.

Each is quoted, computed from the tables, and holds or fails.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from inception_jax.models import get_architecture, modules
from inception_jax.spec.depth import count_depth
from inception_jax.spec.measure import Measurement, measure
from inception_jax.spec.vocabulary import Architecture, Concat, Linear, Unit, max_, same

RAJ = "B. Raj, A Simple Guide to the Versions of the Inception Network, 2018"
YEEPHYCHO = "yeephycho, BN-Inception, Inception-v3 and ResNet, 2016"
TSANG = "S.-H. Tsang, Review: Batch Normalization"


@dataclass(frozen=True)
class Claim:
    quote: str
    source: str
    computed: str
    holds: bool


def claims() -> Iterator[Claim]:
    """Yields the claims in the order of the documents.

    "About" and "similar" mean a difference of less than a tenth.
    """
    googlenet, bn, v3 = (
        measure(get_architecture(name)) for name in ("googlenet", "bn_inception", "inception_v3")
    )
    v4, v1_hybrid, v2_hybrid = (
        measure(get_architecture(name))
        for name in ("inception_v4", "inception_resnet_v1", "inception_resnet_v2")
    )
    rethinking, v2_paper = (
        measure(get_architecture("inception_v2_rethinking")),
        measure(get_architecture("inception_resnet_v2", "paper")),
    )
    resnet152, vgg = measure(get_architecture("resnet152", "paper")), measure(make_vgg16())

    ratio = count_cost(modules.square(5)) / count_cost(modules.square(3))
    yield Claim(
        "a 5x5 convolution is 2.78 times more expensive than a 3x3 convolution",
        RAJ,
        f"{ratio:.2f} times",
        round(ratio, 2) == 2.78,
    )
    saved = 1 - count_cost(modules.chain(5)) / count_cost(modules.square(5))
    yield Claim(
        "5x5 as two 3x3: (9+9)/25, about 28% improvement",
        YEEPHYCHO,
        f"{saved:.0%} saved",
        round(saved, 2) == 0.28,
    )
    saved = 1 - count_cost(modules.asymmetric(3)) / count_cost(modules.square(3))
    yield Claim(
        "1x3 then 3x1: 33% more cheaper than the single 3x3 convolution",
        RAJ,
        f"{saved:.0%} saved",
        round(saved, 2) == 0.33,
    )
    saved = 1 - count_cost(modules.reduced_module()) / count_cost(modules.naive_module())
    yield Claim(
        "1x1 convolutions make the naive module cheaper", RAJ, f"(3a) saves {saved:.0%}", saved > 0
    )
    count = len(list_modules(googlenet.architecture))
    yield Claim("GoogLeNet has 9 such inception modules", RAJ, f"{count}", count == 9)
    layers, pooled = (
        count_depth(googlenet.architecture),
        count_depth(googlenet.architecture, pools=True),
    )
    yield Claim(
        "22 layers deep (27, including the pooling layers)",
        RAJ,
        f"{layers} ({pooled})",
        (layers, pooled) == (22, 27),
    )
    yield Claim(
        "Inception-ResNet v1 has a computational cost that is similar to that of Inception v3",
        RAJ, format_comparison(v1_hybrid, v3), is_similar(v1_hybrid, v3),
    )  # fmt: skip
    similar_to_v4 = (
        "Inception-ResNet v2 has a computational cost that is similar to that of Inception v4"
    )
    for form, measured in (("as released", v2_hybrid), ("the paper's own, figure 15", v2_paper)):
        yield Claim(
            f"{similar_to_v4} ({form})",
            RAJ, format_comparison(measured, v4), is_similar(measured, v4),
        )  # fmt: skip
    longest = max(count_module_depth(module) for module in list_modules(bn.architecture))
    yield Claim(
        "the depth of the Inception module grows to 3", YEEPHYCHO, f"{longest}", longest == 3
    )
    more = bn.parameters / googlenet.parameters - 1  # type: ignore[operator]
    yield Claim(
        "BN-Inception: the number of parameters by 25%",
        YEEPHYCHO,
        f"{more:+.0%} over GoogLeNet",
        abs(more - 0.25) < 0.025,
    )
    more = count_multiply_adds(bn) / count_multiply_adds(googlenet) - 1
    yield Claim(
        "and the computational cost is increased by about 30%",
        YEEPHYCHO,
        f"{more:+.0%}",
        abs(more - 0.30) <= 0.03,
    )
    before, after = count_modules_at_28(googlenet), count_modules_at_28(bn)
    yield Claim(
        "28x28 Inception modules from 2 to 3",
        YEEPHYCHO,
        f"{before} to {after}",
        (before, after) == (2, 3),
    )
    widest = max(
        word.filters
        for module in list_modules(bn.architecture)
        for word in module.branches[-2]
        if not isinstance(word, Concat)
    )  # type: ignore
    yield Claim(
        "two consecutive layers of 3x3 convolutions with up to 128 filters",
        TSANG,
        f"up to {widest}",
        widest == 128,
    )
    with_head = format_millions((v3.parameters or 0) + (v3.aux_parameters or 0))
    yield Claim(
        "a single model that has less than 25 million parameters", YEEPHYCHO,
        f"{format_millions(v3.parameters)}; {with_head} with the auxiliary head",
        (v3.parameters or 0) < 25e6,
    )  # fmt: skip
    yield Claim(
        "5 billion multiply-adds",
        YEEPHYCHO,
        format_billions(v3),
        abs(count_multiply_adds(v3) / 5e9 - 1) < 0.1,
    )
    first = [row.stride for row in rethinking.rows if row.kind == "conv"][:3]
    strides = ", ".join(str(stride[0]) for stride in first if stride)
    yield Claim(
        "7x7 into three consecutive 3x3 conv. with stride one",
        YEEPHYCHO,
        f"strides {strides}",
        strides == "1, 1, 1",
    )
    layers = count_depth(rethinking.architecture)
    less = layers - sum(
        count_module_depth(module)
        for module in list_modules(rethinking.architecture)
        if module.figure == "figure 10"
    )
    yield Claim(
        "Inception-v2: whole network is 42 layers deep",
        YEEPHYCHO,
        f"{layers}; {less} without the two reductions",
        layers == 42,
    )
    ratio = count_multiply_adds(rethinking) / count_multiply_adds(googlenet)
    yield Claim(
        "computational cost is 2.5 times higher than GoogLeNet",
        YEEPHYCHO,
        f"{ratio:.1f} times",
        abs(ratio / 2.5 - 1) < 0.1,
    )
    layers = count_depth(resnet152.architecture)
    yield Claim("the 152-layer depth resnet", YEEPHYCHO, f"{layers}", layers == 152)
    lower = count_multiply_adds(resnet152) < count_multiply_adds(vgg)
    yield Claim(
        "has a lower complexity than VGG net",
        YEEPHYCHO,
        f"{format_billions(resnet152)}, VGG-16 {format_billions(vgg)}",
        lower,
    )
    hidden = [word for _, word in get_architecture("mnist").layers if isinstance(word, Linear)]
    units = [word.features or get_architecture("mnist").num_classes for word in hidden]
    yield Claim(
        "3 FC hidden layers with 100 activations each, ... 10 activations",
        TSANG,
        f"{units}",
        units == [100, 100, 100, 10],
    )


def count_multiply_adds(measured: Measurement) -> int:
    return measured.multiply_adds or 0


def count_cost(table: Architecture) -> int:
    return count_multiply_adds(measure(table))


def list_modules(table: Architecture) -> list[Concat]:
    return [steps for _, steps in table.layers if isinstance(steps, Concat)]


def count_module_depth(module: Concat) -> int:
    return count_depth(Architecture("module", "", (("Module", module),), ""))


def count_modules_at_28(measured: Measurement) -> int:
    """Returns the number of modules whose input is a 28x28 map."""
    places = list(measured.end_points.items())
    read = [
        before.shape[:2]
        for (_, before), (name, _) in itertools.pairwise(places)
        if isinstance(dict(measured.architecture.layers)[name], Concat)
    ]
    return read.count((28, 28))


def is_similar(measured: Measurement, other: Measurement) -> bool:
    return abs(count_multiply_adds(measured) / count_multiply_adds(other) - 1) < 0.1


def format_comparison(measured: Measurement, other: Measurement) -> str:
    return f"{format_billions(measured)} against {format_billions(other)}"


def format_billions(measured: Measurement) -> str:
    return f"{count_multiply_adds(measured) / 1e9:.2f} billion"


def format_millions(count: int | None) -> str:
    return f"{(count or 0) / 1e6:.1f} million"


def make_vgg16() -> Architecture:
    """Returns arXiv:1409.1556, configuration D, which one claim compares with."""
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    rows = tuple(
        (f"conv{i}", ((same(filters, 3),) * count, max_(2, 2)))
        for i, (filters, count) in enumerate(stages, 1)
    )
    head = (("fc6", Linear(4096)), ("fc7", Linear(4096)), ("Logits", Linear()))
    return Architecture(
        "vgg16", "paper", rows + head, "arXiv:1409.1556, table 1", 224, Unit(norm=False, bias=True)
    )
