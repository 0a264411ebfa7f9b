from functools import partial

import numpy as np
import pytest

from inception_jax.data.batches import allocate_batch, fill_batch, stream_batches
from inception_jax.data.order import make_sequential_order, make_shuffled_order
from inception_jax.data.source import ArraySource, DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (21, 4, 4, 3), np.uint8)
SOURCE = ArraySource(IMAGES, np.arange(21) % 5, tuple("abcde"))


EIGHT = np.arange(8)


def make(order, source=SOURCE, **options):
    return partial(
        fill_batch,
        batch_size=8,
        order=order,
        source=source,
        pixels=lambda example, _, into: np.copyto(into, example.image),
        **options,
    )


def made(filling, step, rows=EIGHT):
    whole = allocate_batch(len(rows), 4)
    filling(whole, step, rows)
    return whole


def read(filling, start, stop, threads):
    return stream_batches(filling, EIGHT, start, stop, image_size=4, threads=threads)


def test_rows_of_a_batch_are_consecutive_positions_of_the_shuffled_stream():
    order = make_shuffled_order(21, seed=0)
    found = made(make(order), 5)
    np.testing.assert_array_equal(found.position, 40 + np.arange(8))
    np.testing.assert_array_equal(found.image, IMAGES[order(found.position)])
    np.testing.assert_array_equal(found.label, order(found.position) % 5)
    assert found.weight.tolist() == [1.0] * 8


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_holds_the_same_global_batch(processes):
    order = make_shuffled_order(21, seed=0)
    parts = [made(make(order), 3, rows) for rows in np.split(np.arange(8), processes)]
    for whole, pieces in zip(made(make(order), 3), zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_evaluation_batches_hold_each_example_once_and_zero_padding():
    batches = [made(make(make_sequential_order(21)), step) for step in range(3)]
    weights = np.concatenate([found.weight for found in batches])
    np.testing.assert_array_equal(
        np.concatenate([found.image for found in batches])[weights > 0], IMAGES
    )
    assert weights.sum() == 21
    assert not np.concatenate([found.image for found in batches])[weights == 0].any()


@pytest.mark.parametrize("threads", [1, 4])
def test_prefetching_threads_do_not_change_the_batches(threads):
    one = make(make_shuffled_order(21, seed=0))
    for found, wanted in zip(read(one, 2, 40, threads), read(one, 2, 40, 0), strict=True):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_stream_started_at_a_later_step_yields_the_remaining_batches():
    one = make(make_shuffled_order(21, seed=0))
    late, whole = list(read(one, 7, 10, 2)), list(read(one, 0, 10, 2))
    np.testing.assert_array_equal(late[0].image, whole[7].image)
    assert len(late) == 3


@pytest.mark.parametrize("threads", [0, 2])
def test_the_error_for_a_label_out_of_range_names_its_example(threads):
    broken = ArraySource(IMAGES, np.where(np.arange(21) == 13, 9, 0), tuple("abcde"))
    with pytest.raises(DataError, match="example 13: label 9, but there are 5 classes"):
        list(read(make(make_sequential_order(21), broken), 0, 3, threads))
