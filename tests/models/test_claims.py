"""The recorded verdicts on the claims of the founding documents about cost and size."""

from inception_jax.models.modules import DRAWINGS
from inception_jax.spec.measure import measure
from tests.models.claims import claims

SIMILAR_TO_V4 = (
    "Inception-ResNet v2 has a computational cost that is similar to that of Inception v4"
)
HOLD = {
    "a 5x5 convolution is 2.78 times more expensive than a 3x3 convolution": "2.78 times",
    "5x5 as two 3x3: (9+9)/25, about 28% improvement": "28% saved",
    "1x3 then 3x1: 33% more cheaper than the single 3x3 convolution": "33% saved",
    "1x1 convolutions make the naive module cheaper": "(3a) saves 58%",
    "GoogLeNet has 9 such inception modules": "9",
    "22 layers deep (27, including the pooling layers)": "22 (27)",
    "Inception-ResNet v1 has a computational cost that is similar to that of Inception v3": (
        "6.21 billion against 5.71 billion"
    ),
    f"{SIMILAR_TO_V4} (as released)": "13.16 billion against 12.25 billion",
    "the depth of the Inception module grows to 3": "3",
    "and the computational cost is increased by about 30%": "+28%",
    "28x28 Inception modules from 2 to 3": "2 to 3",
    "a single model that has less than 25 million parameters": (
        "23.8 million; 27.2 million with the auxiliary head"
    ),
    "the 152-layer depth resnet": "152",
    "has a lower complexity than VGG net": "11.28 billion, VGG-16 15.47 billion",
    "3 FC hidden layers with 100 activations each, ... 10 activations": "[100, 100, 100, 10]",
}
DO_NOT = {
    f"{SIMILAR_TO_V4} (the paper's own, figure 15)": "9.26 billion against 12.25 billion",
    "BN-Inception: the number of parameters by 25%": "+60% over GoogLeNet",
    "two consecutive layers of 3x3 convolutions with up to 128 filters": "up to 256",
    "5 billion multiply-adds": "5.71 billion",
    "7x7 into three consecutive 3x3 conv. with stride one": "strides 2, 1, 1",
    "Inception-v2: whole network is 42 layers deep": "49; 42 without the two reductions",
    "computational cost is 2.5 times higher than GoogLeNet": "3.7 times",
}


def test_the_claims_of_the_papers_hold_or_fail_as_recorded():
    verdicts = list(claims())
    assert {claim.quote: claim.computed for claim in verdicts if claim.holds} == HOLD
    assert {claim.quote: claim.computed for claim in verdicts if not claim.holds} == DO_NOT


# arXiv:1409.4842, figure 2, with the filters of (3a): weights and multiply-adds.
def test_the_naive_and_the_reduced_module_have_the_counts_of_figure_2():
    naive, reduced = measure(DRAWINGS["naive_module"]), measure(DRAWINGS["reduced_module"])
    assert (naive.parameters, naive.multiply_adds) == (387_072, 303_464_448)
    assert (reduced.parameters, reduced.multiply_adds) == (163_328, 128_049_152)
    assert (naive.end_points["Module"].shape[-1], reduced.end_points["Module"].shape[-1]) == (
        416,
        256,
    )


def test_three_grid_reductions_agree_in_shape_and_cost_as_published():
    """arXiv:1512.00567, section 5, counts 2 d^2 k^2 operations.

    That is for convolving first; pooling first takes a quarter.
    """
    first, last = DRAWINGS["pool_then_convolve"], DRAWINGS["convolve_then_pool"]
    assert measure(last).multiply_adds == 2 * 35**2 * 320**2
    assert measure(first).multiply_adds == 2 * 17**2 * 320**2
    shapes = {
        measure(DRAWINGS[name]).end_points["Module"].shape
        for name in ("pool_then_convolve", "convolve_then_pool", "reduce_in_parallel")
    }
    assert shapes == {(17, 17, 640)}


def test_factorised_convolutions_keep_the_receptive_field_at_the_published_cost():
    for size in (3, 5, 7):
        square, chain, asymmetric = (
            measure(DRAWINGS[f"{form}_{size}x{size}"]) for form in ("square", "chain", "asymmetric")
        )
        assert (
            square.receptive_field
            == chain.receptive_field
            == asymmetric.receptive_field
            == (size, size)
        )
        assert chain.multiply_adds / square.multiply_adds == (size // 2) * 9 / size**2
        assert asymmetric.multiply_adds / square.multiply_adds == 2 / size


def test_the_deeper_filter_bank_has_fewer_output_channels_than_the_expanded_one():
    assert measure(DRAWINGS["expanded_module"]).end_points["Module"].shape == (8, 8, 2048)
    assert measure(DRAWINGS["deeper_module"]).end_points["Module"].shape == (8, 8, 1280)
