import time
import types

import pytest

from inception_jax.data import tfds
from inception_jax.data.registry import open_source
from inception_jax.data.source import DataError


def shard(directory):
    return next(directory.glob("*/*/*-train.array_record-00000-of-00001"))


def test_opening_tfds_data_names_a_missing_shard(tmp_path):
    assert len(open_source("digits", "train", str(tmp_path))) == 1347
    shard(tmp_path).unlink()
    with pytest.raises(
        DataError, match=r"1 of 1 shards are missing in .*train\.array_record-00000-of-00001"
    ):
        open_source("digits", "train", str(tmp_path))


def test_a_flipped_bit_in_tfds_data_is_noticed(tmp_path):
    source = open_source("digits", "train", str(tmp_path))
    file = shard(tmp_path)
    data = bytearray(file.read_bytes())
    at = data.index(source[0].image) + 40
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="record 0 cannot be read"):
        open_source("digits", "train", str(tmp_path))[0]


def test_tfds_download_returns_the_folder_of_a_dataset_that_is_prepared(tmp_path):
    open_source("digits", "train", str(tmp_path))
    assert tfds.download_dataset("digits", str(tmp_path)) == str(shard(tmp_path).parent)


def test_tfds_download_without_a_network_fails_at_once_and_names_the_folder_to_copy(monkeypatch):
    def never():
        pytest.fail("TFDS was asked, and would try for minutes")

    url_infos = {"https://nowhere.invalid/train.gz": None}
    builder = types.SimpleNamespace(
        is_prepared=lambda: False,
        url_infos=url_infos,
        data_dir="/data/mnist/3.0.1",
        download_and_prepare=never,
    )
    monkeypatch.setattr(tfds, "make_builder", lambda name, directory: builder)
    began = time.monotonic()
    with pytest.raises(
        DataError,
        match=(
            r"mnist cannot be downloaded, nowhere\.invalid cannot be reached .*copy "
            r"/data/mnist/3\.0\.1; .*--data\.name idx .*--data\.name folder"
        ),
    ):
        tfds.download_dataset("mnist", None)
    assert time.monotonic() - began < 5


def test_tfds_download_names_the_files_that_must_be_fetched_by_hand(tmp_path):
    with pytest.raises(
        DataError, match=r"TFDS cannot prepare imagenet2012 in [\s\S]*ILSVRC2012_img_train\.tar"
    ):
        tfds.download_dataset("imagenet2012", str(tmp_path))


def test_opening_digits_succeeds_while_another_process_prepares_them(tmp_path, monkeypatch):
    """Seen with two processes of a run in a fresh folder: TFDS renames a folder onto the one that
    the other has made.
    """
    builder_of = tfds.make_builder

    def late(name, directory):
        builder = builder_of(name, directory)
        if not builder.is_prepared():

            def beaten():
                builder_of(name, directory).download_and_prepare()
                raise FileExistsError("Cannot rename incomplete.ABC_1.0.0. Destination exists")

            builder.download_and_prepare = beaten
        return builder

    monkeypatch.setattr(tfds, "make_builder", late)
    assert len(open_source("digits", "train", str(tmp_path))) == 1347
