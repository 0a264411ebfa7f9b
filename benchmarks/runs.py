"""Real training processes, to be disturbed."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.small_networks import line_of

ROOT = Path(__file__).parent.parent
WITHOUT_PICTURES = os.pathsep.join(
    [str(ROOT / "tests" / "faults" / "bare"), str(ROOT), os.environ.get("PYTHONPATH", "")]
)
"""A Python path that hides the extra `report`: to draw is a third of what so short a run costs."""
RECIPE = [
    *line_of("one"), "--data.threads", "0", "--data.test-split", "test[:40]", "--batch-size", "4",
    "--norm.examples-per-group", "2", "--epochs", "0.375", "--checkpoint-every-epochs", "0.0625",
    "--evaluate-every-epochs", "0.125",
]  # fmt: skip
"""126 steps, a checkpoint every 21, an evaluation every 42; one module and 4 images, since many
such runs are made.
"""


class Process:
    """A process of `train.py` with `RECIPE` and further flags, or of another command.

    Its output is read as it comes.
    """

    def __init__(self, folder: Path, *arguments: str, command: str = "", **environment: str):
        begin = (
            ["-m", "inception_jax.cli", command, "--import", "benchmarks.registered"]
            if command
            else [str(ROOT / "train.py"), *RECIPE]
        )
        line = [sys.executable, *begin, *arguments]
        # A cache of their own: an entry that a killed process left half-written would warn for ever
        # after.
        environment = {
            "PYTHONPATH": WITHOUT_PICTURES,
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            **environment,
        }
        self._process = subprocess.Popen(
            line, cwd=folder, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._ear = threading.Thread(target=self._hear, daemon=True)
        self._ear.start()

    def _hear(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def until(self, text: str, timeout: float = 300) -> None:
        """Waits for a line with `text` in it."""
        end = time.monotonic() + timeout
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get(timeout=max(0, end - time.monotonic()))) is not None:
                if text in line:
                    return
        raise AssertionError(
            f"it did not say {text!r} within {timeout:.0f} s, or ended:\n{self.text}"
        )

    def __del__(self) -> None:
        self._process.kill()  # where a test failed

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = 300) -> int:
        """Its exit code, when all that it said was heard."""
        code = self._process.wait(timeout)
        self._ear.join()
        return code

    @property
    def text(self) -> str:
        return "".join(self.said)


def killed_at(folder: Path, workdir: str, moment: float) -> str | None:
    """Starts a run and kills it after some seconds; returns its output, or None if it had ended."""
    process = Process(folder, "--workdir", workdir)
    try:
        assert process.wait(moment) == 0, process.text
        return None
    except subprocess.TimeoutExpired:
        process.send(signal.SIGKILL)
        process.wait()
        return process.text


def completed(folder: Path, workdir: str) -> str:
    """Runs to the end; what it said."""
    process = Process(folder, "--workdir", workdir)
    assert process.wait() == 0, process.text
    return process.text


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def pair(
    folder: Path, workdir: str, *arguments: str, numbers: Sequence[int] = (0, 1)
) -> list[Process]:
    """Starts two processes of one run, or those of `numbers`."""
    environment = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    return [
        Process(folder, "--workdir", workdir, *arguments, **environment, JAX_PROCESS_ID=str(number))
        for number in numbers
    ]
