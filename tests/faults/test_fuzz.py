"""Damaged files of every kind that is read: an error that a user can mend, or what the format
cannot tell from a whole file.

`benchmarks/fuzz.py` reads 1,500, each fifty in a process of its own.
"""

import resource

import pytest

from benchmarks.malformed import KINDS, LONGEST_SECONDS, MOST_MEGABYTES, case

pytest.importorskip("h5py")


def check(numbers, folder):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of what this process did before
    found = [case(number, folder) for number in numbers]
    assert [one for one in found if one.verdict not in ("refused", "same", "other")] == []
    assert max(one.seconds for one in found) < LONGEST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MEGABYTES
    for one in found:
        assert len(one.message) <= 300, one
    return found


@pytest.mark.slow
def test_sixty_damaged_files_are_refused_or_read_as_their_format_allows(tmp_path):
    found = check(range(10_000, 10_060), tmp_path)
    assert {one.kind for one in found} == {kind.name for kind in KINDS}
    assert sum(one.verdict == "refused" for one in found) > 30


@pytest.mark.nightly
def test_a_hundred_and_fifty_damaged_files_are_refused_or_read_as_their_format_allows(tmp_path):
    check(range(150), tmp_path)


def test_the_same_number_is_the_same_damage(tmp_path):
    first, second = (case(23, tmp_path / name) for name in "ab")
    assert first._replace(seconds=0, message="") == second._replace(seconds=0, message="")
