import numpy as np
import pytest

from inception_jax.data.order import make_sequential_order, make_shuffled_order


@pytest.mark.parametrize("examples", [1, 7, 1347])
def test_each_epoch_permutes_the_examples_and_epochs_of_many_examples_differ(examples):
    ids = make_shuffled_order(examples, seed=3)(np.arange(4 * examples)).reshape(4, examples)
    np.testing.assert_array_equal(np.sort(ids, 1), np.tile(np.arange(examples), (4, 1)))
    if examples > 100:
        assert len({tuple(epoch) for epoch in ids}) == 4


def test_the_shuffled_order_depends_on_seed_and_position_alone():
    stream = make_shuffled_order(100, seed=1)(np.arange(1000))
    fresh = make_shuffled_order(100, seed=1)
    np.testing.assert_array_equal(fresh(np.arange(990, 1000)), stream[990:])
    np.testing.assert_array_equal(fresh(np.array([5, 250, 7])), stream[[5, 250, 7]])
    assert (make_shuffled_order(100, seed=2)(np.arange(100)) != stream[:100]).any()


def test_the_shuffled_order_does_not_change_between_versions():
    """Philox words are guaranteed by NumPy; a run must be replayable in years."""
    assert make_shuffled_order(1347, seed=0)(np.arange(5)).tolist() == [1051, 998, 162, 670, 664]


def test_a_single_pass_over_the_examples_ends_with_padding():
    np.testing.assert_array_equal(
        make_sequential_order(5)(np.arange(8)), [0, 1, 2, 3, 4, -1, -1, -1]
    )


def test_a_single_pass_yields_all_views_of_an_example_consecutively():
    np.testing.assert_array_equal(
        make_sequential_order(2, views=3)(np.arange(8)), [0, 0, 0, 1, 1, 1, -1, -1]
    )


@pytest.mark.parametrize(("examples", "block"), [(12, 4), (14, 4), (3, 8)])
def test_a_coarse_shuffle_keeps_blocks_together(examples, block):
    epochs = make_shuffled_order(examples, seed=0, block=block)(np.arange(20 * examples)).reshape(
        20, examples
    )
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(examples))
        starts = [i for i, example in enumerate(epoch) if example % block == 0]
        for start, stop in zip(starts, [*starts[1:], examples], strict=True):
            np.testing.assert_array_equal(np.diff(epoch[start:stop]), 1)
    if examples > block:
        assert len({tuple(epoch) for epoch in epochs}) > 1
