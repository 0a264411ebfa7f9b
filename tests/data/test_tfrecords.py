"""TFRecord files against what TensorFlow itself wrote, and with every byte of one changed."""

import struct

import pytest

from inception_jax.data.source import DataError
from inception_jax.data.tfrecords import compute_masked_crc, read_tfrecords

TENSORFLOW = bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19")
"""`tf.io.TFRecordWriter(...).write(b"hello")`."""


def framed(data):
    length = struct.pack("<Q", len(data))
    return (
        length
        + struct.pack("<I", compute_masked_crc(length))
        + data
        + struct.pack("<I", compute_masked_crc(data))
    )


def test_the_checksum_is_crc32c():
    """RFC 3720, B.4: 32 bytes of 0; masked as tensorflow/core/lib/hash/crc32c.h does."""
    crc = 0x8A9136AA
    assert compute_masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_file_of_tensorflows_is_read(tmp_path):
    (tmp_path / "a").write_bytes(TENSORFLOW)
    assert list(read_tfrecords(tmp_path / "a")) == [b"hello"]
    assert framed(b"hello") == TENSORFLOW


def test_records_come_back_as_they_were_written(tmp_path):
    records = [b"", b"one", bytes(100_000)]
    (tmp_path / "a").write_bytes(b"".join(map(framed, records)))
    assert list(read_tfrecords(tmp_path / "a")) == records
    (tmp_path / "none").touch()
    with pytest.raises(DataError, match="none is empty"):
        list(read_tfrecords(tmp_path / "none"))


def test_a_flipped_byte_anywhere_in_a_tfrecord_is_found(tmp_path):
    whole = framed(b"first") + framed(b"the second record")
    file = tmp_path / "a"
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(
            DataError,
            match=(
                rf"{file} is no whole TFRecord file: .*\(record {0 if place < 21 else 1}, by its "
                r"checksum\)"
            ),
        ):
            list(read_tfrecords(file))


def test_a_tfrecord_cut_anywhere_but_between_records_is_found(tmp_path):
    whole = framed(b"first") + framed(b"second")
    for length in set(range(1, len(whole))) - {21}:
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(DataError, match="is no whole TFRecord file"):
            list(read_tfrecords(tmp_path / "a"))


def test_a_length_that_the_file_does_not_have_takes_no_memory(tmp_path):
    length = struct.pack("<Q", 2**60)
    (tmp_path / "a").write_bytes(length + struct.pack("<I", compute_masked_crc(length)) + b"little")
    with pytest.raises(DataError, match="it is cut off"):
        list(read_tfrecords(tmp_path / "a"))
