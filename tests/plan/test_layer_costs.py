"""The costs of a convolution, a pool and a linear layer, compared with counts by hand."""

import pytest

from inception_jax.plan.layer_costs import DeviceRates, compute_layer_costs
from inception_jax.spec.measure import measure
from inception_jax.spec.vocabulary import Architecture, Linear, global_avg, same, table

TABLE = Architecture(
    "mine",
    "paper",
    table(Stem=same(16, 3, 2), Pool=global_avg(), Logits=Linear()),
    "a test",
    8,
    num_classes=10,
)


@pytest.mark.parametrize(("train", "passes"), [(False, 1), (True, 3)])
def test_operations_bytes_and_bounds_of_layers_match_counts_by_hand(train, passes):
    stem, pool, logits = compute_layer_costs(
        measure(TABLE), images=5, itemsize=2, train=train, rates=DeviceRates(1e6, 1e6, "a test")
    )
    assert stem.path == "Stem/conv_3x3"
    assert stem.flops == passes * 5 * 2 * (4 * 4 * 9 * 3 * 16)
    assert stem.bytes == passes * 2 * (5 * (8 * 8 * 3 + 4 * 4 * 16) + 9 * 3 * 16 + 2 * 16)
    assert (stem.bound, stem.seconds) == ("compute", stem.flops / 1e6)
    assert (pool.flops, pool.bytes, pool.bound) == (0, passes * 2 * 5 * (4 * 4 * 16 + 16), "memory")
    assert logits.flops == passes * 5 * 2 * 16 * 10
    (stem, *_) = compute_layer_costs(
        measure(TABLE), images=5, itemsize=2, train=train, rates=DeviceRates(1e9, 1e3, "a test")
    )
    assert (stem.bound, stem.seconds) == ("memory", stem.bytes / 1e3)
