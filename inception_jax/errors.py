"""The exit codes, the base of all errors that a user can mend, and what a message shows of names that come from outside."""

import errno
import re
from enum import IntEnum


class ExitCode(IntEnum):
    """All exit codes of the command, but 0 and the 128 + n of signal n. `launch/again.sh` restarts after LOST and STOPPED."""

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
    """An error whose message says what was found, what was wanted and what to do; the command ends with its `exit_code`.

    An `exit_code` of any other exception is not one of ours, and is not looked at.
    """

    exit_code: int = ExitCode.BUG


def get_exit_code(error: BaseException) -> int:
    """Returns the code that a process ends with on `error`: BUG for whatever a user cannot mend."""
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
"""Characters that a terminal obeys instead of showing them, changes of the direction of writing included, but no tabs and line ends."""
MAX_MESSAGE_CHARACTERS = 4000
"""Characters of a message: none prints a whole file."""


def escape_control_characters(text: object) -> str:
    """Returns `text` on one line, with control characters and bytes that are no UTF-8 (surrogates) as escapes: `\\x1b`, `\\udcff`."""
    return format_message(text).replace("\t", "\\t").replace("\n", "\\n")


def format_message(text: object) -> str:
    """Returns `text` with control characters and bytes that are no UTF-8 as escapes; lines stay lines, and a long text is cut."""
    shown = str(text)
    if len(shown) > MAX_MESSAGE_CHARACTERS:
        shown = f"{shown[: MAX_MESSAGE_CHARACTERS - 200]} ... ({len(shown) - MAX_MESSAGE_CHARACTERS + 200:,} characters more)"
    shown = CONTROL_CHARACTERS.sub(
        lambda found: (
            f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}"
        ),
        shown,
    )
    return shown.encode(errors="backslashreplace").decode()
