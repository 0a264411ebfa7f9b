"""The largest batch that fits is found in few attempts."""

import pytest

from inception_jax.plan.largest_batch import find_largest_batch, list_batch_candidates

GIB = 2**30


def make_compiler(memory, limit=16 * GIB, reports_memory=True):
    """Returns a fake compiler whose programs take `memory(images)`, and the list of its calls."""
    attempts = []

    def attempt(images):
        attempts.append(images)
        return {
            "images": images,
            "fits": memory(images) <= limit,
            "memory_bytes": memory(images) if reports_memory else None,
            "memory_limit_bytes": limit,
        }

    return attempt, attempts


def linear(images):
    return GIB // 2 + images * 60_000_000


def recomputing(images):
    """Models a compiler that recomputes values above 12 GiB instead of keeping them."""
    return min(linear(images), 12 * GIB + max(linear(images) - 12 * GIB, 0) // 3)


@pytest.mark.parametrize("memory", [linear, recomputing])
@pytest.mark.parametrize("start", [1, 100, 4000])
@pytest.mark.parametrize("group", [0, 1, 32, 48, 128])
@pytest.mark.parametrize("reports_memory", [True, False])
def test_the_batch_search_finds_the_largest_batch_that_fits_in_few_attempts(
    memory, start, group, reports_memory
):
    sizes = list_batch_candidates(group, 256, 4096)
    attempt, attempts = make_compiler(memory, reports_memory=reports_memory)
    best = find_largest_batch(sizes, attempt, start=start, fixed_bytes=GIB // 2)
    assert best["images"] == max(n for n in sizes if memory(n) <= 16 * GIB)
    max_attempts = 5 if reports_memory and memory is linear else 14
    assert len(set(attempts)) == len(attempts) <= max_attempts


def test_the_batch_search_returns_the_smallest_candidate_if_nothing_fits():
    attempt, _ = make_compiler(lambda images: 99 * GIB)
    sizes = list_batch_candidates(32, 256, 4096)
    assert find_largest_batch(sizes, attempt, start=64, fixed_bytes=GIB) == {
        "images": 1,
        "fits": False,
        "memory_bytes": 99 * GIB,
        "memory_limit_bytes": 16 * GIB,
    }


def test_the_batch_search_returns_the_largest_candidate_if_all_fit():
    attempt, _ = make_compiler(lambda images: GIB)
    sizes = list_batch_candidates(0, 1, 64)
    assert find_largest_batch(sizes, attempt, start=8, fixed_bytes=GIB)["images"] == 64


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
    sizes = list_batch_candidates(group, devices, 40)
    assert sizes == expected
    assert all(not group or (n * devices) % group == 0 for n in sizes)
