"""Being told to stop, by a signal, at any moment of a run."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Self, TypeVar

from inception_jax.errors import ExitCode, UserError

Item = TypeVar("Item")
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class PreemptedError(UserError):
    """The run was told to stop, and nothing is lost; the same line goes on from here."""

    exit_code = ExitCode.STOPPED
    is_collective = True
    """All processes of a run meet it at the same step."""


class PreemptionHandler:
    """Listens for SIGTERM and Ctrl-C.

    The first of them asks the run to stop: at once while it has nothing that is not saved, else where it next looks. The second ends the
    process, whatever it does. A thread of its own hears them, since Python runs a handler between two of its instructions only, and
    compiling a network is one of those for a minute.

    A process that the command line does not own, such as a notebook's kernel, is never ended: there the first signal raises
    `PreemptedError` at the next look, and the second one `KeyboardInterrupt`.
    """

    owns_process = False
    """Whether this process runs one command and nothing else, so that it may be ended; `cli.entry` sets it."""

    def __init__(self) -> None:
        self.is_requested = False
        """Whether this process was told to stop."""
        self.on_exit: Callable[[str], None] = lambda outcome: None
        """Told of how this ends, where it ends at once."""
        self._notice: Callable[[], None] | None = None
        self._reached: Callable[[], bool] = lambda: self.is_requested
        self._unsaved, self._lock = False, threading.Lock()
        self._handled = 0

    def coordinate(self, notice: Callable[[], None], reached: Callable[[], bool]) -> None:
        """Of several processes, which all stop at the same look: `notice` tells them that this one was told to, and `reached`,
        which all of them call equally often, says whether to stop there."""
        self._notice, self._reached = notice, reached

    def __enter__(self) -> Self:
        if (
            threading.current_thread() is threading.main_thread()
        ):  # Python lets no other thread ask for signals
            self._wakeup_read, self._wakeup_write = socket.socketpair()
            self._wakeup_write.setblocking(False)
            self._wakeup_fd_before = signal.set_wakeup_fd(
                self._wakeup_write.fileno(), warn_on_full_buffer=False
            )
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
            threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_fd_before)
            self._wakeup_write.close()

    def _handle(self, *_: object) -> None:
        """Handles a signal in the main thread, between two instructions of Python's."""
        self._handled += 1
        if self._handled > 1 and not self.owns_process:
            raise KeyboardInterrupt

    def _listen(self) -> None:
        while rung := self._wakeup_read.recv(1):
            if rung[0] in SIGNALS:
                self._receive(signal.Signals(rung[0]))

    def _receive(self, number: signal.Signals) -> None:
        with self._lock:
            if self.is_requested:
                if self.owns_process:
                    self._exit_process(f"a second signal, {number.name}", 128 + number)
                return
            self.is_requested = True
            if self._notice is not None:
                _print_line(
                    f"{number.name}: stopping, together with the other processes; once more stops at once"
                )
                self._notice()
            elif self._unsaved or not self.owns_process:
                _print_line(f"{number.name}: saving, then stopping; once more stops at once")
            else:
                _print_line(f"{number.name}: stopped; nothing is lost: give the same line again")
                self._exit_process(f"stopped by {number.name}", PreemptedError.exit_code)

    def _exit_process(self, outcome: str, code: int) -> None:
        with suppress(Exception):
            self.on_exit(outcome)
        os._exit(code)

    def set_unsaved(self, unsaved: bool) -> None:
        """Says whether the run has something now that stopping at once would lose."""
        with self._lock:
            self._unsaved = unsaved

    def raise_if_requested(self) -> None:
        """Where the run can stop.

        Raises:
          PreemptedError: it was told to.
        """
        if self._reached():
            raise PreemptedError("stopped and saved; the same line goes on from here")

    def check_between(self, items: Iterable[Item]) -> Iterator[Item]:
        """`items`, between any two of which the run can stop."""
        for item in items:
            self.raise_if_requested()
            yield item


def _print_line(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(f"\n{text}", file=sys.stderr, flush=True)
