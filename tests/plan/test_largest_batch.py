"""The largest batch that fits, found in few attempts."""

import pytest

from inception_jax.plan.largest_batch import find_largest_batch, list_batch_candidates

GIB = 2**30


def machine(memory, limit=16 * GIB, told=True):
    """What stands for a compiler: the memory that so many images take, and the attempts that were made."""
    made = []

    def attempt(images):
        made.append(images)
        return {
            "images": images, "fits": memory(images) <= limit,
            "memory_bytes": memory(images) if told else None, "memory_limit_bytes": limit,
        }  # fmt: skip

    return attempt, made


def straight(images):
    return GIB // 2 + images * 60_000_000


def saving(images):
    """Above 12 GiB the compiler computes twice what it would otherwise keep."""
    return (
        straight(images)
        if straight(images) < 12 * GIB
        else 12 * GIB + (straight(images) - 12 * GIB) // 3
    )


@pytest.mark.parametrize("memory", [straight, saving])
@pytest.mark.parametrize("start", [1, 100, 4000])
@pytest.mark.parametrize("group", [0, 1, 32, 48, 128])
@pytest.mark.parametrize("told", [True, False])
def test_the_batch_search_finds_the_largest_batch_that_fits_in_few_attempts(
    memory, start, group, told
):
    sizes = list_batch_candidates(group, 256, 4096)
    attempt, made = machine(memory, told=told)
    found = find_largest_batch(sizes, attempt, start=start, fixed=GIB // 2)
    assert found["images"] == max(n for n in sizes if memory(n) <= 16 * GIB)
    assert len(set(made)) == len(made) <= (5 if told and memory is straight else 14)


def test_the_batch_search_returns_the_smallest_candidate_if_nothing_fits():
    attempt, _ = machine(lambda images: 99 * GIB)
    assert find_largest_batch(list_batch_candidates(32, 256, 4096), attempt, start=64, fixed=GIB) == {
        "images": 1, "fits": False, "memory_bytes": 99 * GIB, "memory_limit_bytes": 16 * GIB,
    }  # fmt: skip


def test_the_batch_search_returns_the_largest_candidate_if_all_fit():
    attempt, _ = machine(lambda images: GIB)
    assert (
        find_largest_batch(list_batch_candidates(0, 1, 64), attempt, start=8, fixed=GIB)["images"]
        == 64
    )


@pytest.mark.parametrize(
    ("group", "devices", "expected"),
    [
        (0, 4, [1, 2, 4, 8, 16, 24, 32, 40]),
        (1, 4, [1, 8, 16, 24, 32, 40]),
        (12, 12, [1, 2, 3, 4, 6, 12, 24]),
        (32, 256, [1, 2, 4, 8, 16, 32]),
        (32, 4, [8, 16, 32]),
        (64, 256, [1, 2, 4, 8, 16, 32]),
    ],
)
def test_batch_candidates_consist_of_whole_norm_groups(group, devices, expected):
    found = list_batch_candidates(group, devices, 40)
    assert found == expected
    assert all(not group or (n * devices) % group == 0 for n in found)
