"""Datasets of TFDS, in ArrayRecord, without TensorFlow."""

import contextlib
import io
import logging
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from inception_jax.data.facts import hash_file_list
from inception_jax.data.source import DataError, Example


class TfdsSource:
    """A TFDS dataset in ArrayRecord, read without TensorFlow.

    The digits are prepared on first use.
    """

    def __init__(self, name: str, split: str, directory: str | None):
        import tensorflow_datasets as tfds

        builder = load_prepared_builder(name, directory)
        if split.partition("[")[0] not in builder.info.splits:
            raise DataError(
                f"{name} has no split {split!r}; it has {', '.join(builder.info.splits)}"
            )
        features = builder.info.features
        if not {"image", "label"} <= set(features):
            raise DataError(
                f"{name} holds {', '.join(features)}: an image-classification set holds 'image' "
                "and 'label'"
            )
        self.class_names = tuple(features["label"].names)
        whole = builder.info.splits[split.partition("[")[0]]
        files = [Path(file) for file in whole.filepaths]
        if missing := [
            file.name for file in files if not file.exists()
        ]:  # TFDS would notice when it reads there
            raise DataError(
                f"{len(missing)} of {len(files)} shards are missing in {builder.data_dir}: "
                f"{', '.join(missing[:3])}; prepare {name} again"
            )
        known = {"name": name, "version": str(builder.info.version), "split": split}
        self._fingerprint = hash_file_list(
            zip(map(os.path.basename, whole.filepaths), whole.shard_lengths, strict=True), known
        )
        self._records = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        try:
            record = self._records[index]
        except RuntimeError as error:  # ArrayRecord has a hash of each chunk
            raise DataError(
                f"record {index} cannot be read ({error}); prepare its shard again"
            ) from error
        return Example(
            record["image"], int(record["label"]), os.fsdecode(record.get("file_name", b""))
        )

    def fingerprint(self) -> str:
        """Returns the fingerprint of the version and of the shards.

        TFDS has recorded the names and sizes of the shards, so that none is listed.
        """
        return self._fingerprint


def make_builder(name: str, directory: str | None) -> Any:
    """Returns the TFDS builder of a dataset in ArrayRecord, prepared or not.

    Raises:
      DataError: TFDS does not know the dataset.
    """
    logging.getLogger("absl").setLevel(
        logging.ERROR
    )  # TFDS tells of each file that it opens or misses
    import tensorflow_datasets as tfds

    options: dict[str, Any] = {"data_dir": directory, "file_format": "array_record"}
    try:
        if name == "digits":
            from inception_jax.data.digits_builder import InceptionJaxDigits

            return InceptionJaxDigits(**options)
        return tfds.builder(name, **options)
    except (tfds.core.DatasetNotFoundError, tfds.core.registered.DatasetNotFoundError) as error:
        raise DataError(
            f"no dataset is called {name!r}: TFDS does not know it, and no imported package "
            "registers it"
        ) from error


def load_prepared_builder(name: str, directory: str | None) -> Any:
    """Returns the TFDS builder of a dataset on disk in ArrayRecord; prepares the digits if needed.

    Raises:
      DataError: Another dataset is missing; the message has the command that prepares it.
    """
    builder = make_builder(name, directory)
    if builder.is_prepared():
        return builder
    if name != "digits":
        where = f" {directory}" if directory else ""
        raise DataError(
            f"{name} is not prepared in {builder.data_dir}: run\n  inception-jax data prepare "
            f"{name}{where}\n"
            "or set data.directory to where it is"
        )
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it announces a download; there is none
            builder.download_and_prepare()
    except OSError as error:
        if (
            other := make_builder(name, directory)
        ).is_prepared():  # by another process of the run, which began at the same moment
            return other
        raise DataError(
            f"the digits cannot be prepared in {builder.data_dir} ({error}): set data.directory"
        ) from error
    return builder


SIZES = {
    "imagenet2012": {"train": 1_281_167, "validation": 50_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "mnist": {"train": 60_000, "test": 10_000},
}
"""Sizes of the datasets of the recipes, which TFDS has only once they are prepared."""


def look_up_split(name: str, split: str) -> tuple[int, tuple[str, ...]]:
    """Returns (examples, class names) of a split of a dataset that need not be on disk.

    Raises:
      DataError: It is neither on disk nor in `SIZES`.
    """
    sizes = SIZES.get(name, {})
    if split not in sizes:
        raise DataError(
            f"{name} {split} is not here, and its size is not known: there are {', '.join(SIZES)}"
        )
    return sizes[split], tuple(make_builder(name, None).info.features["label"].names)


def read_wordnet_ids() -> list[str]:
    """Returns the WordNet ids of ImageNet's 1,000 classes, in the order of its labels."""
    return make_builder("imagenet2012", None).info.features["label"].names


def download_dataset(name: str, directory: str | None) -> str:
    """Downloads and prepares a dataset with TFDS, and returns its folder.

    Raises:
      DataError: There is no network, no space, or a file that must be downloaded by hand is
        missing.
    """
    builder = make_builder(name, directory)
    if builder.is_prepared():
        return str(builder.data_dir)
    by_hand = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
    hosts = (
        [] if by_hand else sorted({urllib.parse.urlsplit(url).netloc for url in builder.url_infos})
    )
    if unreachable := _unreachable(hosts):  # TFDS would try for minutes, and say nothing
        raise DataError(
            f"{name} cannot be downloaded, {unreachable}: prepare it where there is a network, and "
            f"copy {builder.data_dir}; or read files that are here already, the four IDX files of "
            "MNIST and its like with --data.name idx --data.directory FOLDER, images in a folder "
            "for each class with --data.name folder"
        )
    try:
        builder.download_and_prepare()
    except (
        AssertionError,
        OSError,
        ImportError,
        ValueError,
    ) as error:  # what TFDS raises for missing files, disks, packages, checksums
        raise DataError(f"TFDS cannot prepare {name} in {builder.data_dir}: {error}") from error
    return str(builder.data_dir)


def _unreachable(hosts: list[str]) -> str:
    """Returns an error text for the first of `hosts` that cannot be reached; empty if all can."""
    for host in hosts:
        try:
            urllib.request.urlopen(
                urllib.request.Request(f"https://{host}", method="HEAD"), timeout=4
            ).close()
        except urllib.error.HTTPError:
            continue  # it answers
        except OSError as error:
            return f"{host} cannot be reached ({error})"
    return ""
