"""The base of all errors that a user can mend, and what a message shows of names that come from outside."""

import errno
import re

STORAGE = 74
"""The exit code where the operating system does not take what is written."""
PATH = 78
"""That of a path that a line or a file names, and that the system cannot follow or may not."""
PATH_FAULTS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM}
STORAGE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE}


class UserError(Exception):
    """An error whose message says what was found, what was wanted and what to do; the command ends with its `exit_code`.

    An `exit_code` of any other exception is not one of ours, and is not looked at.
    """

    exit_code = 1


def exit_code(error: BaseException) -> int:
    """Returns the code that a process ends with on `error`: 1, a bug of ours, for whatever a user cannot mend."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, OSError) and error.errno in PATH_FAULTS and error.filename is not None:
        return PATH
    return STORAGE if isinstance(error, OSError) and error.errno in STORAGE_FAULTS else 1


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys instead of showing them, changes of the direction of writing included, but no tabs and line ends."""
LONG = 4000
"""Characters of a message: none prints a whole file."""


def printable(text: object) -> str:
    """Returns `text` on one line, with control characters and bytes that are no UTF-8 (surrogates) as escapes: `\\x1b`, `\\udcff`."""
    return message(text).replace("\t", "\\t").replace("\n", "\\n")


def message(text: object) -> str:
    """Returns `text` with control characters and bytes that are no UTF-8 as escapes; lines stay lines, and a long text is cut."""
    shown = str(text)
    if len(shown) > LONG:
        shown = f"{shown[: LONG - 200]} ... ({len(shown) - LONG + 200:,} characters more)"
    shown = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", shown)
    return shown.encode(errors="backslashreplace").decode()
