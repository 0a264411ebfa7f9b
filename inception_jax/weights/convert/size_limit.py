"""How much a file may say that it holds, beside its size."""

from typing import Any

from inception_jax.data.source import DataError

EXPANSION = 4
"""Times its size that a file may expand to: weights are hardly ever compressed, and zipped ones shrink by a tenth."""
SMALL = 2**24
"""Bytes that any file may expand to."""


def check_expansion(what: Any, declared: int, size: int) -> None:
    """Refuses a file that declares much more than its bytes can hold.

    Args:
      what: the file, or a part of one, for the message.
      declared: bytes that it says it holds.
      size: bytes that it has.

    Raises:
      DataError: it does.
    """
    if declared > EXPANSION * size + SMALL:
        raise DataError(
            f"{what} says that it holds {declared:,} bytes, and has {size:,}: it is damaged, or "
            "made to fill the memory"
        )
