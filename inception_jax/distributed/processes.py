"""The processes of one run: joined by JAX's distributed runtime, compared, and stopped together.

JAX's coordination service joins the processes, monitors their heartbeats and holds a key-value
store. It ends a process with SIGABRT and a text of its own. A command that is one of several
processes therefore runs in a subprocess, whose end the parent translates into an exit code.
"""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

# The client of the service has no public name; multihost_utils and Orbax import this module too.
from jax._src import distributed

from inception_jax.config import ConfigError
from inception_jax.distributed.cluster import Cluster, find_cluster, get_join_timeout
from inception_jax.errors import ExitCode, UserError, format_message, get_exit_code
from inception_jax.preemption import SIGNALS, PreemptionHandler

SharedFacts = Mapping[str, Any]
HEARTBEAT = 10
"""Seconds without a heartbeat after which a process counts as lost. JAX's default is 100."""
WAIT_MILLISECONDS = 24 * 3600 * 1000
"""The longest single wait for a key, which is then repeated: the end of a run can be weeks away."""
PARENT = "INCEPTION_JAX_PARENT"
"""File descriptor of a pipe that closes when the parent of this process ends."""
OUTPUT_TAIL = 2**16
"""Bytes at the end of the subprocess's standard error to search for JAX's error."""


class ProcessLostError(UserError):
    """Another process of the run is lost."""

    exit_code = ExitCode.LOST


def supervise_subprocess(flags: Mapping[str, str] | None = None) -> None:
    """Runs this command in a subprocess if it is one of several processes, and exits with its code.

    Returns in the subprocess itself, and where this process is the only one.

    Args:
      flags: Variables from the command line, which override the environment.
    """
    if parent := os.environ.pop(PARENT, None):
        threading.Thread(target=_exit_with_parent, args=(int(parent),), daemon=True).start()
        return
    cluster = find_cluster(flags)
    if cluster is None or not PreemptionHandler.owns_process:
        return
    read_end, write_end = os.pipe()
    # At level 3 jaxlib does not log that a port is in use, and crashes.
    log_level = min(os.environ.get("TF_CPP_MIN_LOG_LEVEL") or "1", "2")
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        stderr=subprocess.PIPE,
        env={**os.environ, PARENT: str(read_end), "TF_CPP_MIN_LOG_LEVEL": log_level},
        pass_fds=[read_end],
        process_group=0,  # so that Ctrl-C reaches it once, from `forward_signal`
    )
    os.close(read_end)
    forwarded, tail = list[int](), bytearray()

    def forward_signal(number: int, _: object) -> None:
        forwarded.append(number)
        child.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, forward_signal)
    reader = threading.Thread(target=_forward_output, args=(child.stderr, tail), daemon=True)
    reader.start()
    code = child.wait()
    reader.join(5)  # a subprocess of the subprocess may hold the pipe open
    os.close(write_end)
    code, text = explain_exit(code, tail.decode(errors="replace"), cluster, forwarded)
    if text:
        print(f"inception-jax: {text}", file=sys.stderr, flush=True)
    sys.exit(code)


def _exit_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(ExitCode.LOST)


def _forward_output(stream: Any, tail: bytearray) -> None:
    while piece := os.read(stream.fileno(), OUTPUT_TAIL):
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.buffer.write(piece)
            sys.stderr.buffer.flush()
        tail += piece
        del tail[:-OUTPUT_TAIL]


RESTART = "start all of them again, and they go on from the last checkpoint"
ERROR_PATTERNS = (
    ("Failed to (add port|start RPC server)", ExitCode.CONFIG,
     "the port where the processes of this run meet at {address} is in use, or cannot be had: end "
     "what listens there, or give another port (--coordinator HOST:PORT, JAX_COORDINATOR_ADDRESS "
     "or JAX_COORDINATOR_PORT)"),
    ("Unexpected task registered", ExitCode.CONFIG,
     "process 0 at {address} expects fewer processes than {own} implies: give all of them the same "
     "number"),
    ("(newer|different) incarnation", ExitCode.CONFIG,
     f"two processes join as {{own}}: give each a number of its own; {RESTART}"),
    ("RegisterTask", ExitCode.LOST,
     "{own} could not join the others at {address} within {seconds:.0f} s: not all of them came, "
     "or process 0 cannot be reached from here; see what became of them, then start all of them "
     "again"),
    (r"stopped sending heartbeats\):\s*(?P<lost>(?:\S*\d\s+)+)", ExitCode.LOST,
     f"process {{lost}} of {{count}} is lost (no heartbeat for {HEARTBEAT} s); {RESTART}"),
    ("Failed to send RPC to coordination service|Socket closed", ExitCode.LOST,
     f"process 0 of {{count}} is lost (its connection was closed); {RESTART}"),
    ("distributed service detected fatal errors", ExitCode.LOST,
     f"another process of the run is lost; {RESTART}"),
)  # fmt: skip
"""(phrase of jaxlib 0.10 to 0.12 on standard error, exit code, message); the first match counts."""


def explain_exit(
    code: int, text: str, cluster: Cluster, forwarded: Sequence[int] = ()
) -> tuple[int, str]:
    """Returns the exit code and the message for a subprocess that ended.

    Args:
      code: Its exit code, negative for a signal.
      text: The end of its standard error.
      forwarded: The signals that were forwarded to it.

    Returns:
      An empty message where the subprocess has printed its own.
    """
    if code >= 0:
        return code, ""
    if translated := translate_error(text, cluster):
        return translated
    if [-code] == list(forwarded):
        message = "stopped before it began; nothing is lost: give the same line again"
        return ExitCode.STOPPED, message
    return 128 - code, f"{format_process_name(cluster)} was ended by {signal.Signals(-code).name}"


def format_process_name(cluster: Cluster) -> str:
    """Returns `process 1 of 4`; or `this process` on Cloud TPU, where only JAX has the numbers."""
    if cluster.number is None:
        return "this process"
    return f"process {cluster.number} of {cluster.count}"


def translate_error(text: str, cluster: Cluster) -> tuple[ExitCode, str] | None:
    """Returns the exit code and the message for the first of `ERROR_PATTERNS` in `text`."""
    for phrase, code, message in ERROR_PATTERNS:
        if match := re.search(phrase, text):
            values = {
                "own": format_process_name(cluster),
                "address": cluster.address or "the address that JAX found",
                "count": cluster.count or "the run",
                "lost": ", ".join(re.findall(r"(\d+)\s", match.groupdict().get("lost") or "")),
                "seconds": get_join_timeout(),
            }
            return code, message.format(**values)
    return None


@contextlib.contextmanager
def join_processes(
    flags: Mapping[str, str] | None = None, facts: Callable[[], SharedFacts] = dict
) -> Iterator["Processes | None"]:
    """Joins this process to the others of its cluster while the body runs.

    Yields None for a single process. If the body fails in this process alone, this process exits
    without leaving the run, and the others lose it.

    Args:
      flags: Variables from the command line, which override the environment.
      facts: Returns the facts that must be equal in all processes.

    Raises:
      ConfigError: Variables contradict each other, or facts differ.
    """
    cluster = find_cluster(flags)
    if cluster is None:
        yield None
        return
    processes = Processes(cluster)
    try:
        processes.compare(facts())
        yield processes
    except BaseException as error:
        if not getattr(error, "is_collective", False) and not processes.wait_for_all():
            code = get_exit_code(error)
            if code == ExitCode.BUG:
                traceback.print_exc()
            own = f"process {processes.number} of {processes.count}"
            text = f"{own} ends, and the others with it: {format_message(error)}"
            print(text, file=sys.stderr, flush=True)
            os._exit(code)
        processes.leave()
        raise
    processes.leave()


class Processes:
    """The processes of a run, as one of them sees them; its creation joins them.

    All of them stop at the same call of `should_stop`. One of them requests it; then each waits at
    its next call until all have published how many calls they have made, and they stop at the first
    call that none has passed.

    Attributes:
      number: Number of this process, from 0.
      count: Number of processes.
    """

    def __init__(self, cluster: Cluster):
        # JAX's service would handle SIGTERM in our place, and Orbax would ask it too.
        jax.config.update("jax_enable_preemption_service", False)
        timeouts: dict[str, Any] = {
            "initialization_timeout": max(1, round(get_join_timeout())),
            "heartbeat_timeout_seconds": HEARTBEAT,
        }
        given: dict[str, Any] = {}
        if cluster.address is not None:
            # By default JAX under Slurm takes the one GPU with the number of the task, also for the
            # only task of a host.
            own_device = None if os.environ.get("JAX_LOCAL_DEVICE_IDS") else cluster.device
            given = {
                "coordinator_address": cluster.address,
                "num_processes": cluster.count,
                "process_id": cluster.number,
                "cluster_detection_method": "deactivate",
                "local_device_ids": own_device,
            }
        try:
            jax.distributed.initialize(**given, **timeouts)
        except (RuntimeError, ValueError, OSError) as error:
            unknown = f"JAX cannot join the processes that {cluster.source} names: {error}"
            code, message = translate_error(str(error), cluster) or (ExitCode.CONFIG, unknown)
            kind = ProcessLostError if code == ExitCode.LOST else ConfigError
            raise kind(message) from error
        state: Any = distributed.global_state
        self.number, self.count, self._client = state.process_id, state.num_processes, state.client
        if self.number == 0:
            where = f"by {cluster.source}, meet at {state.coordinator_address}"
            print(f"{self.count} processes, {where}", file=sys.stderr, flush=True)
        self._condition = threading.Condition()
        self._num_checks, self._is_paused, self._stop_check = 0, False, 0
        self._stopper = threading.Thread(target=self._agree_to_stop, daemon=True)
        self._stopper.start()

    def _get(self, key: str) -> str:
        """Returns the value of `key`, after some process has set it."""
        path = f"inception_jax/{key}"
        while True:
            try:
                return str(self._client.blocking_key_value_get(path, WAIT_MILLISECONDS))
            except RuntimeError as error:  # of JAX
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def _set(self, key: str, value: object) -> None:
        self._client.key_value_set(f"inception_jax/{key}", str(value), allow_overwrite=True)

    def compare(self, facts: SharedFacts) -> None:
        """Compares the facts of all processes, and the numbers of processes they were given.

        Raises:
          ConfigError: Some differ. All processes raise it.
        """
        own = {"host": platform.node(), "facts": {"processes": self.count, **facts}}
        self._set(f"facts/{self.number}", json.dumps(own))
        if self.number == 0:
            all_facts = [json.loads(self._get(f"facts/{i}")) for i in range(self.count)]
            self._set("differences", "; ".join(find_differences(all_facts)) or "none")
        if (differences := self._get("differences")) != "none":
            raise ConfigError(
                f"the processes of this run are not alike: {differences}. Make them alike, and "
                "start all of them again"
            )

    def wait_for_all(self) -> bool:
        """Returns whether all processes call this before a lost process would be detected.

        A broken connection raises an error of the computation first. Some seconds later JAX detects
        the lost process and ends this one.
        """
        end = time.monotonic() + HEARTBEAT + 5
        try:
            self._client.wait_at_barrier("inception_jax/end", 1000 * (HEARTBEAT + 5))
            return True
        except RuntimeError:  # of JAX: the deadline, or a lost process
            time.sleep(max(0, end - time.monotonic()))
            return False

    def leave(self) -> None:
        """Leaves the run, after all processes have called this."""
        jax.distributed.shutdown()
        # A thread that still waits in jaxlib when Python ends makes the process abort.
        self._stopper.join(HEARTBEAT)

    def request_stop(self) -> None:
        """Requests all processes to stop at the same call of `should_stop`."""
        for i in range(self.count):
            self._set(f"stop/{i}", "requested")

    def should_stop(self) -> bool:
        """Returns whether to stop now. Every process calls it equally often."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_paused)
            self._num_checks += 1
            return 0 < self._stop_check <= self._num_checks

    def _agree_to_stop(self) -> None:
        """Waits for a request in a thread, then sets the call of `should_stop` to stop at."""
        with contextlib.suppress(RuntimeError):  # of JAX, at the end of the run
            self._get(f"stop/{self.number}")
            with self._condition:
                self._is_paused = True
            self._set(f"checks/{self.number}", self._num_checks)
            if self.number == 0:
                checks = [int(self._get(f"checks/{i}")) for i in range(self.count)]
                self._set("stop", 1 + max(checks))
            stop_check = int(self._get("stop"))
            with self._condition:
                self._is_paused, self._stop_check = False, stop_check
                self._condition.notify_all()


def find_differences(all_facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each fact that differs: `commit is "abc" on 7 of 8, but on process 3 ...`.

    Args:
      all_facts: For each process, its `host` and `facts`.
    """
    lines = []
    for name in dict.fromkeys(name for process in all_facts for name in process["facts"]):
        values = [json.dumps(process["facts"].get(name)) for process in all_facts]
        usual, count = Counter(values).most_common(1)[0]
        others = [
            f"process {i} on {all_facts[i]['host']} {value}"
            for i, value in enumerate(values)
            if value != usual
        ]
        if others:
            more = f" and {len(others) - 4} more" if len(others) > 4 else ""
            listed = ", ".join(others[:4])
            lines.append(f"{name} is {usual} on {count} of {len(all_facts)}, but on {listed}{more}")
    return lines
