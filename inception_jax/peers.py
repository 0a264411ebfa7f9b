"""The other processes of a run: joined where the environment names them, watched, and stopped together.

The first process holds a line to each other one. Over it come signs of life, whose silence means that a process is lost, and the
question how far each has come, after which all of them stop at the same look. JAX has a sync point for that; Orbax asks it too,
under numbers of its own, and so neither can rely on the answer.
"""

import contextlib
import os
import secrets
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from inception_jax import rollcall
from inception_jax.errors import exit_code, message
from inception_jax.rendezvous import SWITCH, Meeting, meeting, metadata, patience, place
from inception_jax.rollcall import Facts, LostError, listening

BEAT, SILENCE = 2.0, 15.0
"""Seconds between two signs of life, and without one until a process counts as lost. JAX waits 100 s, and then ends without a word."""
ALIVE, DONE, NOTICE, HOLD, REACHED, STOP, GONE = b"adnhrsg"
"""What is said over a line, each with a number: signs of life and leave; a notice to stop, a request to hold still, how far a process
has come, where all stop; and which process was lost."""
MESSAGE = struct.Struct("!BI")


@contextlib.contextmanager
def joined(line: Mapping[str, str] | None = None, facts: Callable[[], Facts] = dict) -> Iterator["Peers | None"]:
    """Makes this process one of those that the environment names, if it names any, while the body runs; None for one that is alone.

    Should another of them end before it is done, this one says so and ends, with 69.

    Args:
      line: variables that the command line gives in the place of the environment's.
      facts: what must be the same in all of them.

    Raises:
      ConfigError: an environment that names them in part; a port that is in use.
      LostError: they could not be joined.
    """
    environment = {**os.environ, **({SWITCH: "auto", **line} if line else {})}
    platforms = jax.config.jax_platforms or ""  # type: ignore[attr-defined]  # JAX sets it itself where it finds the chips of a TPU
    found = meeting(environment, metadata if "tpu" in platforms.split(",") else None)
    if found is None:
        yield None
        return
    peers = _met(found, patience(environment), facts())
    try:
        yield peers
    except BaseException as error:
        if getattr(error, "together", False):
            peers.leave()
            raise
        code = exit_code(error)
        if code == 1:
            time.sleep(SILENCE)  # a broken connection ends in an error of JAX's first; the watch knows whose end it was
            traceback.print_exc()
        print(f"process {found.number} of {found.count} ends, and the others with it: {message(error)}", file=sys.stderr, flush=True)
        os._exit(code)  # without leave: the others are waiting for what it will not do
    else:
        jax.distributed.shutdown()
        peers.leave()


def _met(found: Meeting, seconds: float, facts: Facts) -> "Peers":
    """Joins the others, once all of them are there."""
    address, count, number = found.address, found.count, found.number
    if number == 0:
        print(f"{count} processes, as {found.told} says, meet at {address}", file=sys.stderr, flush=True)
    rollcall.assemble(address, count, number, seconds=seconds, facts=facts)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    try:
        jax.distributed.initialize(
            address,
            num_processes=count,
            process_id=number,
            # Left to itself, JAX takes under Slurm the one GPU of a task's number, also for a task that is alone on its host.
            local_device_ids=None if found.device is None or os.environ.get("JAX_LOCAL_DEVICE_IDS") else found.device,
            cluster_detection_method="deactivate",
            initialization_timeout=max(1, round(seconds)),
        )
        return Peers(place(address)[0], number, count)
    except (RuntimeError, OSError) as error:
        raise LostError(f"process {number} of {count} did not meet the others at {address} ({error}): start all of them again") from error


class Peers:
    """What one process of `count` knows of the others."""

    def __init__(self, host: str, number: int, count: int):
        self._number, self._count = number, count
        self._links: dict[int, socket.socket] = {}
        self._leaving = threading.Event()
        self._turn = threading.Condition()
        self._looks, self._held, self._stop = 0, False, 0
        self._reached: dict[int, int] = {}
        if number == 0:
            server = listening(0)
            secret = int.from_bytes(secrets.token_bytes(4), "big")
            multihost_utils.broadcast_one_to_all(np.array([server.getsockname()[1], secret], np.uint32))
            self._welcome(server, secret)
        else:
            port, secret = multihost_utils.broadcast_one_to_all(np.zeros(2, np.uint32)).tolist()
            self._links[0] = socket.create_connection((host, port), timeout=SILENCE)
            self._links[0].sendall(MESSAGE.pack(0, secret) + MESSAGE.pack(0, number))
        for peer, link in self._links.items():  # all of them are known before the first is heard
            link.settimeout(SILENCE)
            threading.Thread(target=self._beat, args=(peer,), daemon=True).start()
            threading.Thread(target=self._listen, args=(peer,), daemon=True).start()

    def _welcome(self, server: socket.socket, secret: int) -> None:
        server.settimeout(SILENCE)
        with server:
            while missing := sorted(set(range(1, self._count)) - self._links.keys()):
                try:
                    link, _ = server.accept()
                except TimeoutError as error:
                    raise TimeoutError(f"process {', '.join(map(str, missing))} did not connect within {SILENCE:.0f} s") from error
                link.settimeout(SILENCE)
                with contextlib.suppress(OSError, struct.error):
                    given, number = (MESSAGE.unpack(link.recv(MESSAGE.size, socket.MSG_WAITALL))[1] for _ in range(2))
                    if given == secret:
                        self._links[number] = link

    def _say(self, peer: int, what: int, value: int = 0) -> None:
        with contextlib.suppress(OSError):  # whoever listens to this line tells of its end
            self._links[peer].sendall(MESSAGE.pack(what, value))

    def _beat(self, peer: int) -> None:
        while not self._leaving.wait(BEAT):
            self._say(peer, ALIVE)

    def _listen(self, peer: int) -> None:
        cause = "its connection was closed"
        try:
            while heard := self._links[peer].recv(MESSAGE.size, socket.MSG_WAITALL):
                what, value = MESSAGE.unpack(heard)
                if what == DONE:
                    return
                if what == GONE:
                    self._lost(value, "as another process says")
                self._answer(peer, what, value)
        except TimeoutError:
            cause = f"nothing was heard of it for {SILENCE:.0f} s"
        except (OSError, struct.error) as error:
            cause = str(error)
        if not self._leaving.is_set():
            self._lost(peer, cause)

    def _lost(self, peer: int, cause: str) -> None:
        for other in self._links:
            self._say(other, GONE, peer)
        with contextlib.suppress(OSError):
            told = f"process {peer} of {self._count} is lost ({cause}); start all of them again, and they go on from the last checkpoint"
            print(told, file=sys.stderr, flush=True)
        os._exit(LostError.exit_code)

    # Stopping together. While the first asks how far each has come nobody goes further, so that the farthest can be waited for.

    def notice(self) -> None:
        """Has all processes stop at the same look: this one was told to."""
        if self._number:
            self._say(0, NOTICE)
        else:
            self._hold()

    def look(self) -> bool:
        """Whether to stop here. Every process looks as often as every other."""
        with self._turn:
            self._turn.wait_for(lambda: not self._held)
            self._looks += 1
            return 0 < self._stop <= self._looks

    def _hold(self) -> None:
        with self._turn:
            if self._held or self._stop:
                return
            self._held, self._reached[0] = True, self._looks
        for peer in self._links:
            self._say(peer, HOLD)

    def _answer(self, peer: int, what: int, value: int) -> None:
        if what == NOTICE:
            self._hold()
        elif what == HOLD:
            with self._turn:
                self._held = True
                self._say(peer, REACHED, self._looks)
        elif what == STOP:
            self._stop_at(value)
        elif what == REACHED:
            self._reached[peer] = value
            if len(self._reached) == self._count:
                stop = max(self._reached.values()) + 1
                for other in self._links:
                    self._say(other, STOP, stop)
                self._stop_at(stop)

    def _stop_at(self, look: int) -> None:
        with self._turn:
            self._held, self._stop = False, look
            self._turn.notify_all()

    def leave(self) -> None:
        """So that nobody counts this process as lost."""
        self._leaving.set()
        for peer in self._links:
            self._say(peer, DONE)
