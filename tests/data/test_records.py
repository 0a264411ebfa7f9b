import io
import json
import struct

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from inception_jax.data import records
from inception_jax.data.prepare import Preparation
from inception_jax.data.registry import open_source
from inception_jax.data.source import DataError, Example
from inception_jax.data.tfrecords import compute_masked_crc


def photograph(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)).save(
        file, "JPEG"
    )
    return file.getvalue()


@pytest.fixture
def tree(tmp_path):
    for split, count in (("train", 7), ("test", 2)):
        for name in ("ant", "bee", "cat"):
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.jpg").write_bytes(photograph(hash((split, name, i)) % 2**32))
    return tmp_path / "tree"


def prepared(source, target):
    preparation = Preparation(source, target)
    for shard in preparation.shards:
        preparation.write(shard)
    return preparation.finish()


def same(found, wanted):
    assert (len(found), found.class_names) == (len(wanted), wanted.class_names)
    for i in range(len(found)):
        assert found[i][:2] == wanted[i][:2]
        assert wanted[i].name.endswith(found[i].name)


def test_a_tree_of_images_becomes_records(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("inception_jax.data.prepare.SHARD_IMAGES", 5)
    assert prepared(tree, tmp_path / "records") == {"test": 6, "train": 21}
    assert len(list((tmp_path / "records").glob("train-*-of-00005.array_record"))) == 5
    for split in ("train", "test"):
        same(
            open_source("records", split, str(tmp_path / "records")),
            open_source("folder", split, str(tree)),
        )


def test_an_interrupted_data_preparation_resumes_and_keeps_its_finished_shards(
    tree, tmp_path, monkeypatch
):
    monkeypatch.setattr("inception_jax.data.prepare.SHARD_IMAGES", 5)
    first = Preparation(tree, tmp_path / "records")
    for shard in first.shards[:3]:
        first.write(shard)
    (tmp_path / "records" / (first.shards[3].name + ".0a1b2c3d.tmp")).write_bytes(b"cut off")
    with pytest.raises(
        DataError, match=r"holds no records\.json: run\n  inception-jax data prepare"
    ):
        open_source("records", "train", str(tmp_path / "records"))
    kept = {
        shard.name: (tmp_path / "records" / shard.name).stat().st_mtime_ns
        for shard in first.shards[:3]
    }
    assert prepared(tree, tmp_path / "records") == {"test": 6, "train": 21}
    assert kept == {name: (tmp_path / "records" / name).stat().st_mtime_ns for name in kept}


@pytest.fixture
def ready(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("inception_jax.data.prepare.SHARD_IMAGES", 5)
    prepared(tree, tmp_path / "records")
    return tmp_path / "records"


def test_opening_records_names_a_missing_shard(ready):
    (ready / "train-00002-of-00005.array_record").unlink()
    with pytest.raises(
        DataError, match=r"1 of 5 shards are missing in .*: train-00002-of-00005\.array_record"
    ):
        open_source("records", "train", str(ready))


def test_opening_records_names_a_shard_of_the_wrong_length(ready):
    records.write_records([b"one"], ready / "train-00002-of-00005.array_record")
    with pytest.raises(
        DataError,
        match=r"17 examples of train, not 21: train-00002-of-00005\.array_record holds 1 and not 5",
    ):
        open_source("records", "train", str(ready))


def test_opening_records_refuses_a_truncated_shard(ready):
    (ready / "train-00002-of-00005.array_record").write_bytes(b"cut off")
    with pytest.raises(DataError, match="cannot be opened"):
        open_source("records", "train", str(ready))


def test_a_flipped_bit_in_a_record_is_noticed(ready):
    file = ready / "train-00000-of-00005.array_record"
    data = bytearray(file.read_bytes())
    at = data.index(open_source("records", "train", str(ready))[1].image) + 300
    data[at] ^= 1
    file.write_bytes(data)
    source = open_source("records", "train", str(ready))
    with pytest.raises(DataError, match="record 1 cannot be read"):
        source[1]


def test_opening_records_refuses_an_unknown_split_and_a_missing_directory(ready):
    with pytest.raises(DataError, match="no split 'validation'; it has test, train"):
        open_source("records", "validation", str(ready))
    with pytest.raises(DataError, match=r"set data\.directory"):
        open_source("records", "train", None)


def test_data_preparation_refuses_splits_with_different_classes(tree, tmp_path):
    (tree / "test" / "dog").mkdir()
    (tree / "test" / "dog" / "0.jpg").write_bytes(photograph(0))
    with pytest.raises(DataError, match="test has 4 classes and train 3; not in both: dog"):
        Preparation(tree, tmp_path / "records")


# TFRecords: a length, a checksum, the record, another checksum.


def write_tfrecords(file, examples):
    file.write_bytes(b"".join(framed(data) for data in examples))


def framed(data):
    """A record as TensorFlow writes it."""
    length = struct.pack("<Q", len(data))
    return (
        length
        + struct.pack("<I", compute_masked_crc(length))
        + data
        + struct.pack("<I", compute_masked_crc(data))
    )


def slim(image, label, synset):
    message = tf_example_pb2.Example()
    features = message.features.feature
    features["image/encoded"].bytes_list.value.append(image)
    features["image/class/label"].int64_list.value.append(label)
    features["image/class/synset"].bytes_list.value.append(synset.encode())
    features["image/filename"].bytes_list.value.append(f"{synset}_{label}.JPEG".encode())
    return message.SerializeToString()


SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def slims(tmp_path):
    """TF-Slim's ImageNet: labels from 1, WordNet ids as names."""
    folder = tmp_path / "slim"
    folder.mkdir()
    for shard in range(2):
        write_tfrecords(
            folder / f"train-{shard:05d}-of-00002",
            [slim(photograph(10 * shard + i), 1 + i % 3, SYNSETS[i % 3]) for i in range(4)],
        )
    write_tfrecords(
        folder / "validation-00000-of-00001",
        [slim(photograph(i), 3 - i, SYNSETS[2 - i]) for i in range(3)],
    )
    return folder


def test_tf_slim_records_are_copied_byte_for_byte_and_their_labels_become_zero_based(
    slims, tmp_path
):
    assert prepared(slims, tmp_path / "records") == {"train": 8, "validation": 3}
    train = open_source("records", "train", str(tmp_path / "records"))
    assert train.class_names == SYNSETS
    assert [train[i].label for i in range(8)] == [0, 1, 2, 0, 0, 1, 2, 0]
    assert train[5] == Example(photograph(11), 1, "n01443537_2.JPEG")
    validation = open_source("records", "validation", str(tmp_path / "records"))
    assert [validation[i].label for i in range(3)] == [2, 1, 0]
    raw = records.open_records([tmp_path / "records" / "train-00001-of-00002.array_record"])
    assert raw[1] == slim(photograph(11), 2, SYNSETS[1])


def test_data_preparation_names_missing_tfrecord_shards(slims, tmp_path):
    (slims / "train-00000-of-00002").unlink()
    with pytest.raises(DataError, match=r"holds 1 of 2 shards of train; missing are \[0\]"):
        Preparation(slims, tmp_path / "records")


def test_data_preparation_names_a_truncated_tfrecord_file(slims, tmp_path):
    file = slims / "train-00001-of-00002"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="train-00001-of-00002 is no whole TFRecord file"):
        prepared(slims, tmp_path / "records")
    assert not (tmp_path / "records" / "train-00001-of-00002.array_record").exists()
    assert not (tmp_path / "records" / "records.json").exists()


def test_data_preparation_refuses_labels_with_gaps(slims, tmp_path):
    write_tfrecords(slims / "validation-00000-of-00001", [slim(photograph(0), 7, "n07000000")])
    with pytest.raises(DataError, match=r"4 labels from 1 to 7, and none of \[4, 5, 6\]"):
        prepared(slims, tmp_path / "records")


def test_the_error_for_tfrecords_without_an_image_lists_their_features(slims, tmp_path):
    message = tf_example_pb2.Example()
    message.features.feature["text"].bytes_list.value.append(b"words")
    write_tfrecords(slims / "validation-00000-of-00001", [message.SerializeToString()])
    with pytest.raises(DataError, match="a record holds text; wanted are one of"):
        prepared(slims, tmp_path / "records")


def test_converted_tfds_tfrecords_are_readable_by_tfds_and_as_records(tmp_path):
    """The digits, as if TFDS had written them as TFRecords."""
    wanted = open_source("digits", "train[:40]", str(tmp_path / "tfds"))
    folder = next((tmp_path / "tfds").glob("*/*/dataset_info.json")).parent
    source, name = tmp_path / "source", "inception_jax_digits"
    source.mkdir()
    for split in ("train", "test"):
        raw = records.open_records([folder / f"{name}-{split}.array_record-00000-of-00001"])
        write_tfrecords(
            source / f"{name}-{split}.tfrecord-00000-of-00001", [raw[i] for i in range(len(raw))]
        )
    described = json.loads((folder / "dataset_info.json").read_text())
    (source / "dataset_info.json").write_text(json.dumps({**described, "fileFormat": "tfrecord"}))
    for file in ("features.json", "label.labels.txt"):
        (source / file).write_bytes((folder / file).read_bytes())
    target = tmp_path / "converted" / name / "1.0.0"
    assert prepared(source, target) == {"test": 450, "train": 1347}
    same(open_source("records", "train[:40]", str(target)), wanted)
    again = open_source("digits", "train[:40]", str(tmp_path / "converted"))
    same(again, wanted)


@pytest.mark.parametrize("give", ["", "nothing"])
def test_data_preparation_refuses_a_missing_or_empty_folder_and_names_the_wanted_layout(
    tmp_path, give
):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="<split>/<class>/<image>"):
        Preparation(tmp_path / (give or "nowhere"), tmp_path / "records")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "[" * 50_000,
        '{"class_names": ["a"], "first_label": 0}',
        '{"class_names": 3, "first_label": 0, "splits": {}}',
        '{"class_names": ["a"], "first_label": "0", "splits": {"train": {}}}',
        '{"class_names": [1], "first_label": 0, "splits": {"train": {}}}',
        '{"class_names": ["a"], "first_label": 0, "splits": {"train": {"../../etc/passwd": 1}}}',
        '{"class_names": ["a"], "first_label": 0, "splits": {"train": {"x": -1}}}',
        json.dumps({"class_names": ["a"], "first_label": 0, "splits": {"train": {"x" * 300: 1}}}),
        json.dumps({"class_names": ["a"], "first_label": 0, "splits": {"train": {"x\0": 1}}}),
        '{"class_names": ["a"], "first_label": 0, "splits": [1]}',
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_index_of_records_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "records.json").write_text(text)
    with pytest.raises(DataError, match=r"records\.json cannot be read"):
        open_source("records", "train", str(tmp_path))


def test_names_that_are_not_utf_8_survive_preparation(tree, tmp_path):
    import os

    odd = os.fsencode(tree / "train" / "ant") + b"/\xff\xfe.jpg"
    with open(odd, "wb") as file:
        file.write(photograph(1))
    os.rename(os.fsencode(tree / "train" / "bee"), os.fsencode(tree / "train") + b"/b\xe9e")
    os.rename(os.fsencode(tree / "test" / "bee"), os.fsencode(tree / "test") + b"/b\xe9e")
    prepared(tree, tmp_path / "records")
    found, wanted = (
        open_source("records", "train", str(tmp_path / "records")),
        open_source("folder", "train", str(tree)),
    )
    same(found, wanted)
    assert found.class_names == ("ant", "b\udce9e", "cat")
    assert os.fsencode(found[7].name) == b"train/ant/\xff\xfe.jpg"


def test_labels_of_tensorflow_datasets_may_have_a_mark_and_ends_of_lines_of_windows(tmp_path):
    (tmp_path / "source").mkdir()
    write_tfrecords(
        tmp_path / "source" / "x-train.tfrecord-00000-of-00001",
        [slim(photograph(0), 0, "n0"), slim(photograph(1), 1, "n1")],
    )
    (tmp_path / "source" / "label.labels.txt").write_bytes(b"\xef\xbb\xbfant\r\nbee\r\n")
    prepared(tmp_path / "source", tmp_path / "records")
    assert open_source("records", "train", str(tmp_path / "records")).class_names == ("ant", "bee")
