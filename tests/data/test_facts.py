"""The record of data, and its changes."""

import shutil

import numpy as np
import pytest

from inception_jax.data.facts import DataFacts, SplitFacts, list_changes
from inception_jax.data.prepare import Preparation
from inception_jax.data.registry import open_source
from inception_jax.data.source import ArraySource, DataError
from tests.folders import make_images


def facts(classes=("a", "b"), train=(100, "x"), test=(10, "y")):
    return DataFacts(tuple(classes), SplitFacts("train", *train), SplitFacts("test", *test))


def test_facts_are_read_as_they_were_written():
    assert DataFacts.from_json(facts().to_json()) == facts()


@pytest.mark.parametrize(
    "fields",
    [None, [], {}, {"class_names": ["a"], "train": 3}, {**facts().to_json(), "class_names": [1]}],
)
def test_damaged_facts_are_refused(fields):
    with pytest.raises(DataError, match="does not tell of data"):
        DataFacts.from_json(fields)


def test_each_change_is_reported():
    assert list_changes(facts(), facts()) == []
    assert list_changes(facts(), facts(classes=("a", "c"))) == ["classes: 2 -> 2; gone: b; new: c"]
    assert list_changes(facts(), facts(classes=("b", "a"))) == [
        "classes: in another order; label 0 was a and is b"
    ]
    assert list_changes(facts(), facts(train=(120, "z"))) == ["train: 100 -> 120 examples"]
    assert list_changes(facts(), facts(test=(10, "z"))) == [
        "test: files of other names or sizes (y -> z)"
    ]
    assert (
        list_changes(facts(test=(10, None)), facts(test=(10, "z"))) == []
    )  # a source that has no fingerprint


def fingerprints(folder):
    return [open_source("folder", split, str(folder)).fingerprint() for split in ("train", "test")]


def test_the_fingerprint_of_a_folder_is_of_the_names_and_sizes_of_its_files(tmp_path):
    root = make_images(tmp_path / "a")
    before = fingerprints(root)
    shutil.copytree(root, tmp_path / "elsewhere")
    assert fingerprints(tmp_path / "elsewhere") == before
    (root / "train" / "ant" / ".DS_Store").write_bytes(b"none of it")
    assert fingerprints(root) == before
    (root / "train" / "ant" / "00.png").rename(root / "train" / "ant" / "0.png")
    assert fingerprints(root)[0] != before[0]
    assert fingerprints(root)[1] == before[1]
    file = root / "test" / "bee" / "00.png"
    file.write_bytes(file.read_bytes() + b"\0")
    assert fingerprints(root)[1] != before[1]


def test_the_folder_keeps_the_order_of_its_names_and_follows_links(tmp_path):
    root = make_images(tmp_path / "a", ("b", "A", "a"), {"train": 3})
    (root / "train" / "a" / "9.png").symlink_to(root / "train" / "b" / "00.png")
    source = open_source("folder", "train", str(root))
    assert source.class_names == ("A", "a", "b")
    assert [source[i].name.rpartition("train/")[2] for i in range(len(source))] == [
        "A/00.png", "A/01.png", "A/02.png", "a/00.png", "a/01.png", "a/02.png", "a/9.png",
        "b/00.png", "b/01.png", "b/02.png",
    ]  # fmt: skip


def test_each_kind_of_source_has_a_fingerprint_of_its_own(tmp_path):
    root = make_images(tmp_path / "a")
    preparation = Preparation(root, tmp_path / "records")
    for shard in preparation.shards:
        preparation.write(shard)
    preparation.finish()
    found = [
        open_source("records", "train", str(tmp_path / "records")).fingerprint(),
        open_source("digits", "train").fingerprint(),
        open_source("digits", "train[:100]").fingerprint(),
        open_source("folder", "train", str(root)).fingerprint(),
        open_source("folder", "train[:10]", str(root)).fingerprint(),
        open_source("synthetic", "train").fingerprint(),
        open_source("synthetic", "train[:50%]").fingerprint(),
    ]
    assert len(set(found)) == len(found)
    images = np.zeros((4, 2, 2), np.uint8)
    one = ArraySource(images, np.arange(4), ("a", "b", "c", "d"))
    other = ArraySource(images + np.uint8(1), np.arange(4), ("a", "b", "c", "d"))
    assert (
        one.fingerprint()
        == ArraySource(images.copy(), np.arange(4), ("a", "b", "c", "d")).fingerprint()
        != other.fingerprint()
    )
