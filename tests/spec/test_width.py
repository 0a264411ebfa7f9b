import pytest

from inception_jax.models import get_architecture
from inception_jax.spec.measure import measure
from inception_jax.spec.vocabulary import Residual, same
from inception_jax.spec.width import widen
from tests.spec.probes import PREACTIVATION, probe


def test_a_width_multiplier_of_one_changes_nothing():
    assert widen(get_architecture("bn_inception"), 1) == get_architecture("bn_inception")


@pytest.mark.parametrize("multiplier", [0.25, 0.3, 0.5, 1.7, 2])
def test_widen_scales_every_filter_count_to_a_multiple_of_eight(multiplier):
    wide = measure(widen(get_architecture("bn_inception"), multiplier), num_classes=1000)
    plain = measure(get_architecture("bn_inception"), num_classes=1000)
    for row, original in zip(wide.rows, plain.rows, strict=True):
        if row.kind == "conv":
            assert row.output.shape[-1] % 8 == 0
            assert abs(row.output.shape[-1] - multiplier * original.output.shape[-1]) <= 8
    assert wide.end_points["Logits"].shape == (1000,)


def test_widen_keeps_the_channels_of_residual_sums_equal():
    block = Residual((same(16, 1), same(16, 3)), expansion_conv=True, scale=0.17)
    for multiplier in (0.3, 0.7, 1.9):
        measure(widen(PREACTIVATION, multiplier))
        measure(widen(probe("residual", Stem=same(40, 3), Block=block), multiplier))


@pytest.mark.parametrize("multiplier", [0, -1, float("nan")])
def test_widen_refuses_a_multiplier_that_is_not_positive(multiplier):
    with pytest.raises(ValueError, match="above 0"):
        widen(get_architecture("bn_inception"), multiplier)
