"""Preparation of data for random access: images or TFRecords become ArrayRecord.

The sources are a tree of images, IDX files, or TFRecords of TFDS or TF-Slim. The bytes of images
and of records are copied unchanged; the images of IDX files become PNGs. No TensorFlow is needed.
"""

import io
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.atomic_io import format_json, split_lines, wrap_read_errors, write_atomically
from inception_jax.data import records, tfrecords
from inception_jax.data.folder import FolderSource
from inception_jax.data.idx import IDX_FILE, find_idx_files, open_idx
from inception_jax.data.listing import list_folders, report_left_out
from inception_jax.data.source import DataError, Example, Source

SHARD_IMAGES = 10_000
"""Images in a shard that is made from a tree: 1.1 GB of ImageNet's."""

TFRECORD = re.compile(
    r"(?:(?P<dataset>.+)-)?(?P<split>[^-]+?)(?:\.tfrecord)?"
    r"-(?P<shard>\d{5})-of-(?P<shards>\d{5})(?:\.tfrecord)?"
)
"""Names of TFRecord files: `imagenet2012-train.tfrecord-00000-of-01024` (TFDS) and
`train-00000-of-01024` (TF-Slim).
"""


class Shard(NamedTuple):
    """A file to be written, and what it will hold."""

    split: str
    name: str
    records: Callable[[], Iterator[bytes]]


class Preparation:
    """The conversion of `source` to ArrayRecord in `target`.

    Call `write` for each of `shards`, then `finish`. Existing shards are kept, so that an
    interrupted preparation continues.

    Raises:
      DataError: The source is no tree of images and holds no complete set of IDX files or of
        TFRecords, or records cannot be read.
    """

    def __init__(self, source: Path, target: Path):
        if not source.is_dir():
            raise DataError(
                f"{source} is no folder: give one of <split>/<class>/<image> or of TFRecords or "
                "IDX files, or the name of a TFDS dataset"
            )
        files = sorted(file for file in source.iterdir() if TFRECORD.fullmatch(file.name))
        if files:
            self.shards, self._class_names = _of_tfrecords(files, source)
        elif any(IDX_FILE.fullmatch(file.name) for file in source.iterdir()):
            self.shards, self._class_names = _of_idx(source)
        else:
            self.shards, self._class_names = _of_tree(source)
        self._source, self._target = source, target
        self._counts: dict[str, dict[str, int]] = {}
        self._labels: dict[int, str] = {}
        target.mkdir(parents=True, exist_ok=True)

    def write(self, shard: Shard) -> None:
        """Writes one shard."""
        file = self._target / shard.name
        if not file.exists():
            for stale in self._target.glob(
                f"{shard.name}.*.tmp"
            ):  # of a preparation that was killed
                stale.unlink()
            records.write_records(shard.records(), file)
        written = records.open_records([file])
        self._counts.setdefault(shard.split, {})[shard.name] = len(written)
        if self._class_names is None:
            _note_classes(written, self._labels)

    def finish(self) -> dict[str, int]:
        """Writes `records.json`, which marks the folder as complete.

        Returns:
          The number of examples of each split.
        """
        first, names = (
            (0, self._class_names) if self._class_names is not None else _named(self._labels)
        )
        _keep_for_tfds(self._source, self._target)
        index = {"class_names": names, "first_label": first, "splits": self._counts}
        write_atomically(self._target / records.INDEX, format_json(index, indent=1))
        return {split: sum(files.values()) for split, files in self._counts.items()}


def _of_tree(root: Path) -> tuple[list[Shard], list[str]]:
    splits, others = list_folders(root)
    if others:
        report_left_out(root, [("in the folder of no split", others)])
    if not splits:
        raise DataError(
            f"{root} holds neither <split>/<class>/<image>, nor IDX files or TFRecords: give a "
            "folder that does"
        )
    shards, names = list[Shard](), {}
    for split in splits:
        source = FolderSource(split, str(root))
        names[split] = source.class_names
        shards += _make_shards(split, source, root)
    first, *others = splits
    for split in others:
        if odd := sorted(set(names[split]) ^ set(names[first])):
            found = f"{first} has {len(names[first])} classes and {split} {len(names[split])}"
            raise DataError(f"{root}: {found}; not in both: {', '.join(odd[:5])}")
    return shards, list(names[first])


def _of_idx(root: Path) -> tuple[list[Shard], list[str]]:
    sources = {split: open_idx(split, str(root)) for split in find_idx_files(root)[0]}
    shards = [shard for split in sources for shard in _make_shards(split, sources[split], root)]
    return shards, list(next(iter(sources.values())).class_names)


def _make_shards(split: str, source: Source, root: Path) -> list[Shard]:
    """Returns the shards of a split, of about equal length and at most `SHARD_IMAGES` examples."""
    count = -(-len(source) // SHARD_IMAGES)
    bounds = [round(i * len(source) / count) for i in range(count + 1)]
    return [
        Shard(
            split,
            f"{split}-{i:05d}-of-{count:05d}.array_record",
            partial(_made, source, range(bounds[i], bounds[i + 1]), root),
        )
        for i in range(count)
    ]


def _made(source: Source, part: range, root: Path) -> Iterator[bytes]:
    for i in part:
        image, label, name = source[i]
        yield records.serialize_example(
            Example(
                image if isinstance(image, bytes) else _encode_png(image),
                label,
                str(Path(name).relative_to(root)) if name else "",
            )
        )


def _encode_png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _of_tfrecords(files: list[Path], root: Path) -> tuple[list[Shard], list[str] | None]:
    shards, numbers = [], defaultdict[tuple[str, int], set[int]](set)
    for file in files:
        part = TFRECORD.fullmatch(file.name)
        assert part
        split, count = part["split"], int(part["shards"])
        numbers[split, count].add(int(part["shard"]))
        name = (
            file.name.replace(".tfrecord-", ".array_record-")
            if ".tfrecord-" in file.name
            else f"{file.name}.array_record"
        )
        shards.append(Shard(split, name, partial(tfrecords.read_tfrecords, file)))
    for (split, count), there in numbers.items():
        if missing := sorted(set(range(count)) - there):
            raise DataError(
                f"{root} holds {len(there)} of {count} shards of {split}; missing are "
                f"{missing[:5]}: copy or download them again"
            )
    labels = root / "label.labels.txt"
    return shards, split_lines(labels.read_bytes()) if labels.exists() else None


def _note_classes(written: Any, seen: dict[int, str]) -> None:
    """Notes what each stored label is called: by its WordNet id, else its text, else its number."""
    for i in range(len(written)):
        record = written[i]
        label = records.parse_example(record).label
        if label not in seen:
            features = records.parse_features(record)
            names = (
                features[key].bytes_list.value
                for key in ("image/class/synset", "image/class/text")
                if key in features
            )
            seen[label] = next((os.fsdecode(name[0]) for name in names if name), str(label))


def _named(seen: dict[int, str]) -> tuple[int, list[str]]:
    labels = sorted(seen)
    first = labels[0]
    if first not in (0, 1) or labels != list(range(first, first + len(labels))):
        gaps = sorted(set(range(labels[-1])) - set(labels) - {0})
        raise DataError(
            f"the records hold {len(labels)} labels from {first} to {labels[-1]}, and none of "
            f"{gaps[:5]}: labels must be without gaps"
        )
    return first, [seen[label] for label in labels]


def _keep_for_tfds(source: Path, target: Path) -> None:
    """Copies the files that TFDS needs to read the records under the dataset's name."""
    for file in [*source.glob("features.json"), *source.glob("*.labels.txt")]:
        shutil.copy(file, target)
    if (info := source / "dataset_info.json").exists():
        with wrap_read_errors(info, DataError, "download it again, or take it away"):
            described = dict(json.loads(info.read_bytes()))
        write_atomically(
            target / "dataset_info.json",
            format_json({**described, "fileFormat": "array_record"}, indent=2),
        )
