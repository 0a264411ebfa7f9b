"""Before the processes of a run join: are all of them there, and are they alike?

JAX itself waits for a deadline, and then ends with SIGABRT, naming nobody. Another commit on one host of thirty-two trains to something
else without an error, and another configuration hangs. So process 0 listens first where JAX will, until each of the others has said its
number and what it is; then it tells all of them to go on, or what is wrong.
"""

import errno
import json
import platform
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from inception_jax.config import ConfigError
from inception_jax.errors import UserError
from inception_jax.rendezvous import place

HELLO = struct.Struct("!8sIII")
"""What a process says: the sign, its number, how many it takes part with, and of how many bytes what follows is: `Roll` as JSON."""
MOST = 2**20
"""Bytes that nobody has more of to say."""
Facts = Mapping[str, Any]
SIGN = b"inceptio"
GO, LOST, WRONG = b"g", b"l", b"w"
"""The first byte of the answer; the rest of it says why not."""
LISTEN = 5.0
"""Seconds that a caller has for its hello; and the others, beyond the deadline, for what process 0 says of it."""


class LostError(UserError):
    """Another process of the run is not there."""

    exit_code = 69


def assemble(address: str, count: int, number: int, *, seconds: float, facts: Facts = MappingProxyType({})) -> None:
    """Returns when all `count` processes have called at `address`, of which this is `number`, and have the same `facts`.

    Raises:
      LostError: after so many `seconds` there are some missing.
      ConfigError: the port is in use, or the processes contradict each other; all of them raise it.
    """
    end = time.monotonic() + seconds
    said = {"host": platform.node(), "facts": dict(facts)}
    if number:
        _call(address, count, number, said, end)
    else:
        _answer(address, count, said, end, seconds)


def differing(said: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each fact in which a process, by its number and `host`, differs from most: `commit is "abc" on 7 of 8, but ...`."""
    lines = []
    for name in dict.fromkeys(name for one in said for name in one["facts"]):
        values = [json.dumps(one["facts"].get(name)) for one in said]
        usual, times = Counter(values).most_common(1)[0]
        odd = [f"process {i} on {said[i]['host']} {value}" for i, value in enumerate(values) if value != usual]
        if odd:
            more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
            lines.append(f"{name} is {usual} on {times} of {len(said)}, but on {', '.join(odd[:4])}{more}")
    return lines


def listening(port: int) -> socket.socket:
    """At all of this machine's addresses; port 0 is any that is free."""
    both = socket.has_dualstack_ipv6()
    return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)


def _answer(address: str, count: int, own: Mapping[str, Any], end: float, seconds: float) -> None:
    _, port = place(address)
    try:
        server = listening(port)
    except OSError as error:
        why = "is in use: another run, or another program, listens there" if error.errno == errno.EADDRINUSE else f"cannot be had ({error})"
        raise ConfigError(
            f"port {port}, where the processes of this run would meet ({address}), {why}; end that one, or give another port "
            "(--coordinator HOST:PORT, JAX_COORDINATOR_ADDRESS or JAX_COORDINATOR_PORT)"
        ) from error
    links: dict[int, socket.socket] = {}
    said = {0: own}
    with server:
        try:
            while missing := sorted(set(range(1, count)) - links.keys()):
                try:
                    server.settimeout(max(end - time.monotonic(), 1e-3))
                    link, _ = server.accept()
                except TimeoutError:
                    raise LostError(
                        f"{_named(missing)} of {count} did not come to {address} within {seconds:.0f} s: see what became of "
                        f"{'it' if len(missing) == 1 else 'them'}, then start all of them again"
                    ) from None
                _welcome(link, links, said, count)
                for gone in [peer for peer, other in links.items() if _closed(other)]:
                    links.pop(gone).close()
            if told := differing([said[i] for i in range(count)]):
                raise ConfigError(
                    f"the processes of this run are not alike: {'; '.join(told)}. Make them alike, and start all of them again"
                )
        except (LostError, ConfigError) as error:
            _say(links, (LOST if isinstance(error, LostError) else WRONG) + str(error).encode())
            raise
        _say(links, GO)


def _welcome(link: socket.socket, links: dict[int, socket.socket], said: dict[int, Mapping[str, Any]], count: int) -> None:
    """Hears who calls, and what it says of itself. Whoever says something else than a process of a run is sent away.

    Raises:
      ConfigError: that number cannot be.
    """
    link.settimeout(LISTEN)
    try:
        sign, number, many, size = HELLO.unpack(_received(link, HELLO.size))
        said[number] = json.loads(_received(link, min(size, MOST))) if sign == SIGN else {}
    except (OSError, struct.error, ValueError):
        sign, number, many = b"", 0, 0
    if sign != SIGN:
        link.close()
        return
    twice = number in links and not _closed(links[number])
    links[-1 if twice else number] = link
    if many != count:
        raise ConfigError(f"process {number} was told of {many} processes, and process 0 of {count}: tell all of them the same")
    if twice or not number < count:
        raise ConfigError(f"two processes say that they are number {number} of {count}: give each a number of its own")


def _received(link: socket.socket, size: int) -> bytes:
    """Returns so many bytes, or fewer where the link ends.

    With a timeout `MSG_WAITALL` does not wait: of a hello of 2,312 bytes, which are two TCP segments, the first alone came.
    """
    found = b""
    while len(found) < size and (part := link.recv(size - len(found))):
        found += part
    return found


def _closed(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        return link.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _say(links: dict[int, socket.socket], answer: bytes) -> None:
    for link in links.values():
        with suppress(OSError), link:
            link.settimeout(LISTEN)
            link.sendall(answer)


def _named(numbers: list[int]) -> str:
    names = ", ".join(map(str, numbers[:20])) + (f" and {len(numbers) - 20} more" if len(numbers) > 20 else "")
    return f"process {names}" if len(numbers) == 1 else f"processes {names}"


def _call(address: str, count: int, number: int, own: Mapping[str, Any], end: float) -> None:
    said = json.dumps(own).encode()
    begun, why = time.monotonic(), "it did not answer"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection(place(address), timeout=left) as link:
                link.sendall(HELLO.pack(SIGN, number, count, len(said)) + said)
                link.settimeout(left + LISTEN)
                answer = b"".join(iter(lambda: link.recv(4096), b""))
        except OSError as error:  # it is not there yet
            answer, why = b"", str(error)
        kind, text = answer[:1], answer[1:].decode(errors="replace")
        if kind == GO and not text:
            return
        if kind == LOST:
            raise LostError(text)
        if kind == WRONG:
            raise ConfigError(text)
        if answer:
            why = "something else answers there"
        time.sleep(min(0.3, max(0.0, end - time.monotonic())))
    raise LostError(
        f"process {number} of {count} did not reach process 0 at {address} within {time.monotonic() - begun:.0f} s ({why}): see what "
        "became of it, and whether that address and port can be reached from here; then start all of them again"
    )
