"""TensorFlow's TFRecord files: records with their lengths and checksums."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from inception_jax.data.source import DataError

MASK = 0xA282EAD8
"""Added to a checksum that is turned by 15 bits (tensorflow/core/lib/hash/crc32c.h)."""


def read_tfrecords(file: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, and checks the CRC32C of lengths and records.

    Raises:
      DataError: The file is empty or cut off, or a checksum is wrong.
    """
    left = os.path.getsize(file)
    if not left:
        raise DataError(f"{file} is empty, and no whole TFRecord file: copy or download it again")
    with file.open("rb") as opened:
        number = 0
        while header := opened.read(12):
            length, checksum = struct.unpack("<QI", header) if len(header) == 12 else (0, -1)
            if compute_masked_crc(header[:8]) != checksum:
                raise DataError(
                    _damage(
                        file,
                        number,
                        "its length is damaged" if len(header) == 12 else "it is cut off",
                    )
                )
            left -= 16 + length
            if left < 0:
                raise DataError(_damage(file, number, "it is cut off"))
            record, footer = opened.read(length), opened.read(4)
            if len(footer) < 4:
                raise DataError(_damage(file, number, "it is cut off"))
            if compute_masked_crc(record) != struct.unpack("<I", footer)[0]:
                raise DataError(_damage(file, number, "its bytes are not those that were written"))
            yield record
            number += 1


def compute_masked_crc(data: bytes) -> int:
    """Returns the checksum that TensorFlow writes for `data`."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def _damage(file: Path, number: int, what: str) -> str:
    return (
        f"{file} is no whole TFRecord file: {what} (record {number}, by its checksum); copy or "
        "download it again"
    )
