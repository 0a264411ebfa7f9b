"""Six blocks that other networks of the family need, written in the vocabulary.

Each is an architecture on 8x8 images with its counts by hand: output shape before the classifier,
parameters, statistics, multiply-adds (classifier of 10 included).
"""

from inception_jax.spec.vocabulary import (
    Architecture,
    Linear,
    LocalResponse,
    NormAct,
    Residual,
    Unit,
    avg,
    conv,
    global_avg,
    max_,
    same,
    table,
)

HEAD = table(Pool=global_avg(), Logits=Linear())


def probe(name, unit=None, **rows):
    return Architecture(
        name, "probe", table(**rows) + HEAD, "tests", input_size=8, unit=unit or Unit()
    )


BARE = Unit(norm=False, bias=True)

LRN = probe("lrn", BARE, Conv=same(16, 3), LRN=LocalResponse())
# The branch and the projection read the same BN-ReLU; the second unit's shortcut is the identity.
PREACTIVATION = probe(
    "preactivation",
    Stem=same(16, 3, norm=False, activation="linear"),
    Unit_1=Residual(
        (same(8, 1), same(8, 3, 2), same(32, 1, norm=False, activation="linear")),
        shortcut=conv(32, 1, 2, norm=False, activation="linear"),
        preactivation=True,
        activation="linear",
    ),
    Unit_2=Residual(
        (same(8, 1), same(8, 3), same(32, 1, norm=False, activation="linear")),
        preactivation=True,
        activation="linear",
    ),
    Post=NormAct(),
)
OPTION_A = probe(
    "option_a",
    Stem=same(16, 3),
    Unit_1=Residual(
        (same(32, 3, 2), same(32, 3, activation="linear")), shortcut="pad", stride=(2, 2)
    ),
)
CEIL = probe("ceil", BARE, Conv=same(8, 3), Max=max_(3, 2, "ceil"), Avg=avg(3, 2, "ceil"))
ZERO_PADDED = probe(
    "zero_padded", BARE, Conv=same(8, 3, activation="linear"), Max=max_(3, 2, (1, 1), pad_value=0.0)
)
SEPARABLE = probe(
    "separable",
    Stem=conv(16, 7, 2, depth_multiplier=8, norm=False, bias=True),
    Explicit=conv(8, 3, 2, (1, 1)),
)


def count_head(channels):
    return channels * 10 + 10


EXPECTED = {
    # name: (shape before the head, parameters, statistics, multiply-adds)
    LRN: ((8, 8, 16), 27 * 16 + 16 + count_head(16), 0, 64 * 27 * 16 + 160),
    PREACTIVATION: (
        (4, 4, 32),
        27 * 16
        + (32 + 16 * 8 + 16 + 9 * 64 + 16 + 8 * 32 + 16 * 32)
        + (64 + 32 * 8 + 16 + 9 * 64 + 16 + 8 * 32)
        + 64
        + count_head(32),
        2 * ((16 + 8 + 8) + (32 + 8 + 8) + 32),
        64 * 27 * 16
        + 64 * 128
        + 16 * 576
        + 16 * 256
        + 16 * 512
        + 16 * 256
        + 16 * 576
        + 16 * 256
        + 320,
    ),
    OPTION_A: (
        (4, 4, 32),
        27 * 16 + 32 + 9 * 16 * 32 + 64 + 9 * 32 * 32 + 64 + count_head(32),
        2 * (16 + 32 + 32),
        64 * 27 * 16 + 16 * 9 * 16 * 32 + 16 * 9 * 32 * 32 + 320,
    ),
    CEIL: (
        (2, 2, 8),
        27 * 8 + 8 + count_head(8),
        0,
        64 * 27 * 8 + 80,
    ),  # 8 -> ceil(5/2)+1 = 4 -> ceil(1/2)+1 = 2
    ZERO_PADDED: ((4, 4, 8), 27 * 8 + 8 + count_head(8), 0, 64 * 27 * 8 + 80),
    SEPARABLE: (
        (2, 2, 8),
        49 * 24 + 24 * 16 + 16 + 9 * 16 * 8 + 16 + count_head(8),
        16,
        16 * (49 * 24 + 24 * 16) + 4 * 9 * 16 * 8 + 80,
    ),
}
