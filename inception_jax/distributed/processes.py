"""The processes of one run: joined by JAX's distributed runtime, compared with each other, and stopped together.

JAX's coordination service is the engine: processes meet there, send it heartbeats, and share its key-value store. It ends a process by
SIGABRT, with a text of its own. So a command that is one of several processes runs in a child, and its parent translates how that ends.
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
from jax._src import (
    distributed,  # the client of the service, which has no public name; multihost_utils and Orbax take it from here too
)

from inception_jax.config import ConfigError
from inception_jax.distributed.cluster import Cluster, find_cluster, join_timeout
from inception_jax.errors import ExitCode, UserError, format_message, get_exit_code
from inception_jax.preemption import SIGNALS, PreemptionHandler

SharedFacts = Mapping[str, Any]
HEARTBEAT = 10
"""Seconds without a heartbeat after which a process counts as lost. JAX's default is 100."""
LONG = 24 * 3600 * 1000
"""Milliseconds of one wait for another process, after which it is begun again: a lost process ends it."""
PARENT = "INCEPTION_JAX_PARENT"
"""The file descriptor of a pipe that closes when the parent of this process ends."""
OUTPUT_TAIL = 2**16
"""Bytes of the end of a child's standard error, in which JAX's last words are."""


class ProcessLostError(UserError):
    """Another process of the run is not there."""

    exit_code = ExitCode.LOST


def supervise_subprocess(line: Mapping[str, str] | None = None) -> None:
    """Runs this command in a child and exits with its translated code, where it is one of several processes; returns where it is not.

    Args:
      line: variables that the command line sets before the environment's.
    """
    if parent := os.environ.pop(PARENT, None):
        threading.Thread(target=_end_with_parent, args=(int(parent),), daemon=True).start()
        return
    cluster = find_cluster(line)
    if cluster is None or not PreemptionHandler.owns_process:
        return
    ours, theirs = os.pipe()
    # At level 3 jaxlib does not log that a port is in use, and crashes.
    environment = {
        **os.environ,
        PARENT: str(ours),
        "TF_CPP_MIN_LOG_LEVEL": min(os.environ.get("TF_CPP_MIN_LOG_LEVEL") or "1", "2"),
    }
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]], stderr=subprocess.PIPE, env=environment, pass_fds=[ours],
        process_group=0,  # Ctrl-C reaches it once, from here
    )  # fmt: skip
    os.close(ours)
    passed, tail = list[int](), bytearray()

    def pass_on(number: int, _: object) -> None:
        passed.append(number)
        child.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    reader = threading.Thread(target=_forward, args=(child.stderr, tail), daemon=True)
    reader.start()
    code = child.wait()
    reader.join(5)  # a grandchild may hold the pipe open
    os.close(theirs)
    code, text = explain_exit(code, tail.decode(errors="replace"), cluster, passed)
    if text:
        print(f"inception-jax: {text}", file=sys.stderr, flush=True)
    sys.exit(code)


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(ExitCode.LOST)


def _forward(stream: Any, tail: bytearray) -> None:
    while piece := os.read(stream.fileno(), OUTPUT_TAIL):
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.buffer.write(piece)
            sys.stderr.buffer.flush()
        tail += piece
        del tail[:-OUTPUT_TAIL]


AGAIN = "start all of them again, and they go on from the last checkpoint"
ERROR_PATTERNS = (
    ("Failed to (add port|start RPC server)", ExitCode.CONFIG,
     "the port where the processes of this run meet at {address} is in use, or cannot be had: end what listens there, or give "
     "another port (--coordinator HOST:PORT, JAX_COORDINATOR_ADDRESS or JAX_COORDINATOR_PORT)"),
    ("Unexpected task registered", ExitCode.CONFIG,
     "process 0 at {address} expects fewer processes than {own} implies: give all of them the same number"),
    ("(newer|different) incarnation", ExitCode.CONFIG, f"two processes join as {{own}}: give each a number of its own; {AGAIN}"),
    ("RegisterTask", ExitCode.LOST, "{own} could not join the others at {address} within {seconds:.0f} s: not all of them came, or "
     "process 0 cannot be reached from here; see what became of them, then start all of them again"),
    (r"stopped sending heartbeats\):\s*(?P<lost>(?:\S*\d\s+)+)", ExitCode.LOST,
     f"process {{lost}} of {{count}} is lost (no heartbeat for {HEARTBEAT} s); {AGAIN}"),
    ("Failed to send RPC to coordination service|Socket closed", ExitCode.LOST,
     f"process 0 of {{count}} is lost (its connection was closed); {AGAIN}"),
    ("distributed service detected fatal errors", ExitCode.LOST, f"another process of the run is lost; {AGAIN}"),
)  # fmt: skip
"""Phrases of jaxlib 0.10 to 0.12 on standard error, in this order, and what the command makes of them."""


def explain_exit(
    code: int, text: str, cluster: Cluster, passed: Sequence[int] = ()
) -> tuple[int, str]:
    """Returns the exit code for a child that ended with `code`, negative for a signal, and what to say of it; "" where it said so itself.

    Args:
      text: the end of its standard error.
      passed: the signals that were passed on to it.
    """
    if code >= 0:
        return code, ""
    if translated := translate_error(text, cluster):
        return translated
    if [-code] == list(passed):
        return (
            ExitCode.STOPPED,
            "stopped before it began; nothing is lost: give the same line again",
        )
    return 128 - code, f"{format_process_name(cluster)} was ended by {signal.Signals(-code).name}"


def format_process_name(cluster: Cluster) -> str:
    """Returns `process 1 of 4`; on Cloud TPU, where JAX alone has the numbers, `this process`."""
    return (
        "this process" if cluster.number is None else f"process {cluster.number} of {cluster.count}"
    )


def translate_error(text: str, cluster: Cluster) -> tuple[ExitCode, str] | None:
    """Returns the exit code and the message for the first of `ERROR_PATTERNS` in `text`; None where there is none."""
    for phrase, code, said in ERROR_PATTERNS:
        if found := re.search(phrase, text):
            lost = ", ".join(re.findall(r"(\d+)\s", found.groupdict().get("lost") or ""))
            address, count = (
                cluster.address or "the address that JAX found",
                cluster.count or "the run",
            )
            return code, said.format(
                own=format_process_name(cluster),
                address=address,
                count=count,
                lost=lost,
                seconds=join_timeout(),
            )
    return None


@contextlib.contextmanager
def join_processes(
    line: Mapping[str, str] | None = None, facts: Callable[[], SharedFacts] = dict
) -> Iterator["Processes | None"]:
    """Joins this process to the others that the environment names, while the body runs; yields None for a process that is alone.

    If the body fails in this process alone, this process exits without a word to the others: they lose it.

    Args:
      line: variables that the command line sets before the environment's.
      facts: returns what must be the same in all of them.

    Raises:
      ConfigError: contradicting variables, or facts that differ.
    """
    cluster = find_cluster(line)
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
            text = f"process {processes.number} of {processes.count} ends, and the others with it: {format_message(error)}"
            print(text, file=sys.stderr, flush=True)
            os._exit(code)
        processes.leave()
        raise
    processes.leave()


class Processes:
    """One process of a run among the others; creating it joins them.

    Attributes:
      number: which of them this one is, from 0.
      count: how many there are.
    """

    def __init__(self, cluster: Cluster):
        jax.config.update(
            "jax_enable_preemption_service", False
        )  # it would take SIGTERM from us, and Orbax would ask it too
        found: dict[str, Any] = {} if cluster.address is None else {
            "coordinator_address": cluster.address, "num_processes": cluster.count, "process_id": cluster.number,
            "cluster_detection_method": "deactivate",
            # Left to itself, JAX takes under Slurm the one GPU of a task's number, also for a task that is alone on its host.
            "local_device_ids": None if os.environ.get("JAX_LOCAL_DEVICE_IDS") else cluster.device,
        }  # fmt: skip
        try:
            jax.distributed.initialize(
                **found,
                initialization_timeout=max(1, round(join_timeout())),
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except (RuntimeError, ValueError, OSError) as error:
            unknown = (
                ExitCode.CONFIG,
                f"JAX cannot join the processes that {cluster.source} names: {error}",
            )
            code, said = translate_error(str(error), cluster) or unknown
            raise (ProcessLostError if code == ExitCode.LOST else ConfigError)(said) from error
        state: Any = distributed.global_state
        self.number, self.count, self._client = state.process_id, state.num_processes, state.client
        if self.number == 0:
            print(
                f"{self.count} processes, by {cluster.source}, meet at {state.coordinator_address}",
                file=sys.stderr,
                flush=True,
            )
        self._turn = threading.Condition()
        self._looks, self._held, self._stop = 0, False, 0
        self._agreeing = threading.Thread(target=self._agree_to_stop, daemon=True)
        self._agreeing.start()

    def _get(self, key: str) -> str:
        """Returns what some process set under `key`, once it has."""
        while True:
            try:
                return str(self._client.blocking_key_value_get(f"inception_jax/{key}", LONG))
            except RuntimeError as error:  # JAX's
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def _set(self, key: str, value: object) -> None:
        self._client.key_value_set(f"inception_jax/{key}", str(value), allow_overwrite=True)

    def compare(self, facts: SharedFacts) -> None:
        """Compares the facts of all processes, and the number of processes that each was given.

        Raises:
          ConfigError: some differ; all of the processes raise it.
        """
        self._set(
            f"facts/{self.number}",
            json.dumps({"host": platform.node(), "facts": {"processes": self.count, **facts}}),
        )
        if self.number == 0:
            all_facts = [json.loads(self._get(f"facts/{i}")) for i in range(self.count)]
            self._set("differences", "; ".join(find_differences(all_facts)) or "none")
        if (found := self._get("differences")) != "none":
            raise ConfigError(
                f"the processes of this run are not alike: {found}. Make them alike, and start all of them again"
            )

    def wait_for_all(self) -> bool:
        """Returns whether all processes call this within the time that a lost one takes to be missed.

        A broken connection gives an error of the computation first, and some seconds later JAX's verdict, which ends this process.
        """
        end = time.monotonic() + HEARTBEAT + 5
        try:
            self._client.wait_at_barrier("inception_jax/end", 1000 * (HEARTBEAT + 5))
            return True
        except RuntimeError:  # JAX's, on a deadline or where one is lost
            time.sleep(max(0, end - time.monotonic()))
            return False

    def leave(self) -> None:
        """Leaves the run, once all processes do."""
        jax.distributed.shutdown()
        self._agreeing.join(
            HEARTBEAT
        )  # a thread that still waits in jaxlib when Python ends makes it abort

    # Stopping together. While they agree on a look nobody goes further, so that the farthest can be waited for.

    def request_stop(self) -> None:
        """Makes all processes stop at the same look, since this one was asked to stop."""
        for i in range(self.count):
            self._set(f"stop/{i}", "asked")

    def should_stop(self) -> bool:
        """Returns whether to stop here. Every process calls it as often as every other."""
        with self._turn:
            self._turn.wait_for(lambda: not self._held)
            self._looks += 1
            return 0 < self._stop <= self._looks

    def _agree_to_stop(self) -> None:
        """Waits for a notice, in a thread; then holds this process, and has it stop at the first look that none is past."""
        with contextlib.suppress(RuntimeError):  # of JAX's, where the run is over
            self._get(f"stop/{self.number}")
            with self._turn:
                self._held = True
            self._set(f"looks/{self.number}", self._looks)
            if self.number == 0:
                self._set("stop", 1 + max(int(self._get(f"looks/{i}")) for i in range(self.count)))
            stop = int(self._get("stop"))
            with self._turn:
                self._held, self._stop = False, stop
                self._turn.notify_all()


def find_differences(all_facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each fact in which a process, by number and `host`, differs from most: `commit is "abc" on 7 of 8, but ...`."""
    lines = []
    for name in dict.fromkeys(name for one in all_facts for name in one["facts"]):
        values = [json.dumps(one["facts"].get(name)) for one in all_facts]
        usual, times = Counter(values).most_common(1)[0]
        odd = [
            f"process {i} on {all_facts[i]['host']} {value}"
            for i, value in enumerate(values)
            if value != usual
        ]
        if odd:
            more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
            lines.append(
                f"{name} is {usual} on {times} of {len(all_facts)}, but on {', '.join(odd[:4])}{more}"
            )
    return lines
