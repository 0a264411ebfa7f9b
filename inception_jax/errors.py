"""Exit codes, the base class of errors that a user can resolve, and the escaping of messages."""

import errno
import re
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the command, beside 0 and 128 + n for signal n.

    `launch/supervise.sh` restarts after LOST and STOPPED.
    """

    BUG = 1  # a bug of ours
    USAGE = 2  # a line that cannot be understood
    DATA = 65  # data, weights, checkpoints or metrics that cannot be read
    LOST = 69  # another process of the run
    NOT_FINITE = 70  # a loss or a gradient
    STORAGE = 74  # that does not take what is written
    STOPPED = 75  # and saved, or another process is training there
    CONFIG = 78  # a configuration, environment or path that cannot be followed


PATH_FAULTS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM}
STORAGE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE}


class UserError(Exception):
    """An error whose message says what was found, what was wanted and what to do.

    The command ends with its `exit_code`. An `exit_code` of any other exception is ignored.
    """

    exit_code: int = ExitCode.BUG


def get_exit_code(error: BaseException) -> int:
    """Returns the exit code for `error`: BUG for an error that a user cannot resolve."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, OSError) and error.errno in PATH_FAULTS and error.filename is not None:
        return ExitCode.CONFIG
    return (
        ExitCode.STORAGE
        if isinstance(error, OSError) and error.errno in STORAGE_FAULTS
        else ExitCode.BUG
    )


CONTROL_CHARACTERS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Characters that change a terminal, also the direction of text; without tabs and line ends."""
MAX_MESSAGE_CHARACTERS = 4000
"""Characters of a message: none prints a whole file."""


def escape_control_characters(text: object) -> str:
    r"""Returns `text` on one line, with control characters and invalid UTF-8 escaped.

    Escapes are `\x1b` for a control character and `\udcff` for a surrogate of an invalid byte.
    """
    return format_message(text).replace("\t", "\\t").replace("\n", "\\n")


def format_message(text: object) -> str:
    """Returns `text` with control characters and invalid UTF-8 escaped, cut to a limit.

    Line ends stay.
    """
    shown = str(text)
    if len(shown) > MAX_MESSAGE_CHARACTERS:
        shown = (
            f"{shown[: MAX_MESSAGE_CHARACTERS - 200]} ... "
            f"({len(shown) - MAX_MESSAGE_CHARACTERS + 200:,} characters more)"
        )
    shown = CONTROL_CHARACTERS.sub(
        lambda found: (
            f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}"
        ),
        shown,
    )
    return shown.encode(errors="backslashreplace").decode()
