"""ArrayRecord files of `tf.train.Example`, with a `records.json` that lists them.

    DIRECTORY/records.json
    DIRECTORY/train-00000-of-00129.array_record ...

`records.json` is {"class_names": [...], "first_label": 0, "splits": {"train":
{"train-00000-of-00129.array_record": 9932, ...}}}.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from inception_jax.atomic_io import make_temporary_name, wrap_read_errors
from inception_jax.data.facts import hash_file_list
from inception_jax.data.source import DataError, Example

INDEX = "records.json"
UNCOMPRESSED = "group_size:1,uncompressed"
"""One record a group, for random access; JPEGs do not get smaller."""

IMAGE, LABEL, NAME = (
    ("image", "image/encoded"),
    ("label", "image/class/label"),
    ("name", "file_name", "image/filename"),
)
"""Names of the features in TFDS and TF-Slim."""


class RecordSource:
    """The examples that `inception-jax data prepare` wrote.

    Stored labels count from `first_label`; TF-Slim's ImageNet begins at 1.
    """

    def __init__(self, split: str, directory: str | None):
        if directory is None:
            raise DataError(
                "data.name is records: set data.directory to a folder that inception-jax data "
                "prepare wrote"
            )
        root = Path(directory).expanduser()
        if not (root / INDEX).exists():
            raise DataError(
                f"{root} holds no {INDEX}: run\n  inception-jax data prepare SOURCE {root}\nwith "
                "the images or TFRecords as SOURCE"
            )
        index = read_index(root / INDEX)
        if split not in index.splits:
            raise DataError(f"{root} has no split {split!r}; it has {', '.join(index.splits)}")
        files = index.splits[split]
        if missing := [name for name in files if not (root / name).exists()]:
            raise DataError(
                f"{len(missing)} of {len(files)} shards are missing in {root}: "
                f"{', '.join(missing[:3])}; prepare them again"
            )
        self.class_names = index.class_names
        self._first_label = index.first_label
        self._files = [(name, count, (root / name).stat().st_size) for name, count in files.items()]
        self._records = open_records([root / name for name in files])
        if len(self) != sum(files.values()):
            found = ((name, len(open_records([root / name])), files[name]) for name in files)
            name, count, wanted = next(item for item in found if item[1] != item[2])
            wrong = f"{name} holds {count} and not {wanted}"
            raise DataError(
                f"{root} holds {len(self):,} examples of {split}, not {sum(files.values()):,}: "
                f"{wrong}; prepare it again"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        try:
            example = parse_example(self._records[index])
        except RuntimeError as error:  # ArrayRecord has a hash of each chunk
            raise DataError(
                f"record {index} cannot be read ({error}); prepare its shard again"
            ) from error
        return example._replace(label=example.label - self._first_label)

    def fingerprint(self) -> str:
        """Returns one of the names, records and sizes of the shards."""
        return hash_file_list((f"{name} {count}", size) for name, count, size in self._files)


class RecordIndex(NamedTuple):
    """The contents of `records.json`.

    Attributes:
      class_names: Names of the classes in the order of their labels.
      first_label: The stored label of the first class.
      splits: Split -> file -> number of records.
    """

    class_names: tuple[str, ...]
    first_label: int
    splits: dict[str, dict[str, int]]


def read_index(file: Path) -> RecordIndex:
    """Returns the contents of a `records.json`.

    Raises:
      DataError: It cannot be read, or has another form.
    """
    with wrap_read_errors(file, DataError, "prepare the data again, or bring back its copy"):
        found = json.loads(file.read_bytes())
        index = RecordIndex(tuple(found["class_names"]), found["first_label"], found["splits"])
        counted = all(
            type(count) is int and count >= 0 and _is_file_name(name)
            for files in index.splits.values()
            for name, count in files.items()
        )
        if not (
            counted
            and all(isinstance(name, str) for name in index.class_names)
            and type(index.first_label) is int
        ):
            raise ValueError(
                "class names are texts, and records are counted, by the names of files in the same "
                "folder"
            )
        return index


def _is_file_name(name: str) -> bool:
    """Returns whether a name can be that of a file in the same folder, and of none elsewhere."""
    return Path(name).name == name and "\0" not in name and len(os.fsencode(name)) < 256


def open_records(files: list[Path]) -> Any:
    """Returns the records of `files` as a sequence of bytes.

    Raises:
      DataError: A file cannot be opened.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return ArrayRecordDataSource([str(file) for file in files])
    except RuntimeError as error:
        raise DataError(
            f"of {files[0]} ... {files[-1]}, one cannot be opened ({error}); prepare it again"
        ) from error


def parse_example(record: bytes) -> Example:
    """Returns the image, the stored label and the name of a serialised `tf.train.Example`.

    The features are those that TFDS, TF-Slim and `serialize_example` write.

    Raises:
      DataError: The bytes are none, or lack image or label.
    """
    features = parse_features(record)
    image, label, name = (
        next((features[key] for key in keys if key in features), None)
        for keys in (IMAGE, LABEL, NAME)
    )
    if image is None or label is None or not image.bytes_list.value or not label.int64_list.value:
        raise DataError(
            f"a record holds {', '.join(sorted(features))}; wanted are one of {IMAGE} and one of "
            f"{LABEL}"
        )
    return Example(
        image.bytes_list.value[0],
        label.int64_list.value[0],
        os.fsdecode(name.bytes_list.value[0]) if name else "",
    )


def parse_features(record: bytes) -> Any:
    """Returns the features of a serialised `tf.train.Example` by name.

    Raises:
      DataError: The bytes are none.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        return tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise DataError(
            f"{len(record)} bytes that begin with {record[:8]!r} are no tf.train.Example"
        ) from error


def serialize_example(example: Example) -> bytes:
    """Returns `example`, whose image is encoded, as a serialised `tf.train.Example`."""
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example()
    message.features.feature["image"].bytes_list.value.append(example.image)
    message.features.feature["label"].int64_list.value.append(example.label)
    message.features.feature["name"].bytes_list.value.append(os.fsencode(example.name))
    return message.SerializeToString(deterministic=True)


def write_records(records: Iterable[bytes], file: Path) -> int:
    """Writes `records` to `file`, which appears when it is whole; returns how many there were."""
    from array_record.python.array_record_module import ArrayRecordWriter

    unfinished, count = make_temporary_name(file), 0
    writer = ArrayRecordWriter(str(unfinished), UNCOMPRESSED)
    try:
        for record in records:
            writer.write(record)
            count += 1
        writer.close()
        unfinished.replace(file)
    except BaseException:
        writer.close()
        unfinished.unlink(missing_ok=True)
        raise
    return count
