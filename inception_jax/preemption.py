"""Preemption: a signal asks a run to stop, at any moment."""

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
    """A run that stopped on request with nothing lost; the same command resumes it."""

    exit_code = ExitCode.STOPPED
    is_collective = True
    """All processes of a run raise it at the same step."""


class PreemptionHandler:
    """Handles SIGTERM and Ctrl-C.

    The first signal stops the run: at once while nothing is unsaved, else at the next
    `raise_if_requested`. The second ends the process. A thread receives them, since Python runs a
    signal handler only between two of its instructions, and compiling a network is a single one of
    up to a minute.

    A process that the command line does not own, such as a notebook's kernel, is never ended: the
    first signal raises `PreemptedError` at the next `raise_if_requested`, the second
    `KeyboardInterrupt`.

    Attributes:
      is_requested: Whether this process got a signal.
      on_exit: Called with the outcome when a signal ends the process at once.
    """

    owns_process = False
    """Whether this process runs one command and may be ended; `cli.entry` sets it."""

    def __init__(self) -> None:
        self.is_requested = False
        self.on_exit: Callable[[str], None] = lambda outcome: None
        self._request_all: Callable[[], None] | None = None
        self._should_stop: Callable[[], bool] = lambda: self.is_requested
        self._is_unsaved, self._lock = False, threading.Lock()
        self._num_handled = 0

    def coordinate(self, request_all: Callable[[], None], should_stop: Callable[[], bool]) -> None:
        """Makes several processes stop at the same call of `raise_if_requested`.

        Args:
          request_all: Requests all processes to stop.
          should_stop: Returns whether to stop now; all processes call it equally often.
        """
        self._request_all, self._should_stop = request_all, should_stop

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows no other thread
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
        """Handles a signal in the main thread, between two of Python's instructions."""
        self._num_handled += 1
        if self._num_handled > 1 and not self.owns_process:
            raise KeyboardInterrupt

    def _listen(self) -> None:
        while received := self._wakeup_read.recv(1):
            if received[0] in SIGNALS:
                self._receive(signal.Signals(received[0]))

    def _receive(self, number: signal.Signals) -> None:
        with self._lock:
            if self.is_requested:
                if self.owns_process:
                    self._exit_process(f"a second signal, {number.name}", 128 + number)
                return
            self.is_requested = True
            if self._request_all is not None:
                _print_line(
                    f"{number.name}: stopping, together with the other processes; once more stops "
                    "at once"
                )
                self._request_all()
            elif self._is_unsaved or not self.owns_process:
                _print_line(f"{number.name}: saving, then stopping; once more stops at once")
            else:
                _print_line(f"{number.name}: stopped; nothing is lost: give the same line again")
                self._exit_process(f"stopped by {number.name}", PreemptedError.exit_code)

    def _exit_process(self, outcome: str, code: int) -> None:
        with suppress(Exception):
            self.on_exit(outcome)
        os._exit(code)

    def set_unsaved(self, is_unsaved: bool) -> None:
        """Sets whether an immediate stop would lose something."""
        with self._lock:
            self._is_unsaved = is_unsaved

    def raise_if_requested(self) -> None:
        """Raises an error if the run is to stop now; called where it can.

        Raises:
          PreemptedError: A signal requested it.
        """
        if self._should_stop():
            raise PreemptedError("stopped and saved; the same line goes on from here")

    def check_between(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields `items`, with a call of `raise_if_requested` before each."""
        for item in items:
            self.raise_if_requested()
            yield item


def _print_line(text: str) -> None:
    with suppress(OSError, ValueError):  # the stream is closed
        print(f"\n{text}", file=sys.stderr, flush=True)
