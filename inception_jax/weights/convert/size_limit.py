"""A limit of what a file may declare, in proportion to its size."""

from typing import Any

from inception_jax.data.source import DataError

EXPANSION = 4
"""Largest factor between the declared and the actual bytes. Weights are rarely compressed, and
compress by a tenth.
"""
SMALL = 2**24
"""Bytes that any file may declare."""


def check_expansion(what: Any, declared: int, size: int) -> None:
    """Raises an error for a file that declares much more than its bytes can hold.

    Args:
      what: The file, or a part of one, for the message.
      declared: Declared bytes.
      size: Bytes of the file.

    Raises:
      DataError: It does.
    """
    if declared > EXPANSION * size + SMALL:
        raise DataError(
            f"{what} says that it holds {declared:,} bytes, and has {size:,}: it is damaged, or "
            "made to fill the memory"
        )
