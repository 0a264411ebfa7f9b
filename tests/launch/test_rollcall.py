"""All there, or who is missing: processes of a run call each other before JAX does."""

import json
import platform
import socket
import threading
import time

import pytest

from inception_jax import rollcall
from inception_jax.commands.line import taken
from inception_jax.commands.train import MEETING
from inception_jax.config import ConfigError
from inception_jax.peers import joined
from inception_jax.rollcall import LostError, assemble, differing
from tests.faults.runs import free_port


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


def called(address, calls, seconds, facts=lambda number: {}):
    """What becomes of each of `calls`, pairs of (count, number), all at once; each says the `facts` of its number."""
    outcome = {}

    def one(index, count, number):
        try:
            outcome[index] = assemble(address, count, number, seconds=seconds, facts=facts(number))
        except (LostError, ConfigError) as error:
            outcome[index] = error

    threads = [threading.Thread(target=one, args=(index, *call)) for index, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [outcome[index] for index in range(len(calls))]


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(rollcall, "LISTEN", 0.5)


def test_the_handshake_completes_for_all_processes_and_frees_its_port(address):
    assert called(address, [(3, 2), (3, 1), (3, 0)], 10) == [None] * 3
    assert called(address, [(2, 1), (2, 0)], 10) == [None] * 2


@pytest.mark.slow
def test_the_handshake_names_the_missing_processes_to_those_present(address):
    for error in called(address, [(4, 2), (4, 0)], 1.2):
        assert isinstance(error, LostError)
        assert "processes 1, 3 of 4 did not come to" in str(error)


def test_the_handshake_fails_with_the_address_if_process_0_is_missing(address):
    (error,) = called(address, [(2, 1)], 0.5)
    assert isinstance(error, LostError)
    assert f"process 1 of 2 did not reach process 0 at {address}" in str(error)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([(3, 1), (3, 1), (3, 0)], "two processes say that they are number 1 of 3"),
        ([(3, 1), (2, 0)], "process 1 was told of 3 processes, and process 0 of 2"),
    ],
)
def test_the_handshake_fails_on_all_processes_if_their_numbers_or_counts_contradict(address, calls, message):
    for error in called(address, calls, 10):
        assert isinstance(error, ConfigError)
        assert message in str(error)


def test_the_handshake_names_the_process_with_different_facts_to_all_processes(address):
    facts = {"commit": "abc", "jax": "0.10.2", "batch_size": 64}
    outcome = called(address, [(8, i) for i in range(8)], 10, lambda number: facts | ({"commit": "xyz"} if number == 7 else {}))
    for error in outcome:
        assert isinstance(error, ConfigError)
        assert f'commit is "abc" on 7 of 8, but on process 7 on {platform.node()} "xyz"' in str(error)
        assert "jax" not in str(error)


def test_the_handshake_names_four_of_many_differing_processes():
    said = [{"host": f"h{i}", "facts": {"batch_size": 64 if i < 20 else 32}} for i in range(32)]
    named = ", ".join(f"process {i} on h{i} 32" for i in range(20, 24))
    assert differing(said) == [f"batch_size is 64 on 20 of 32, but on {named} and 8 more"]
    assert differing(said[:20]) == []


def connected(address):
    """A line to whoever listens there, as soon as somebody does."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        except OSError:
            pass


def test_a_restarted_process_replaces_its_lost_predecessor_in_the_handshake(address):
    outcome = {}
    first = threading.Thread(target=lambda: outcome.update(found=called(address, [(3, 0)], 10)))
    first.start()
    gone = connected(address)
    gone.sendall(rollcall.HELLO.pack(rollcall.SIGN, 1, 3, 2) + b"{}")
    gone.close()
    assert called(address, [(3, 1), (3, 2)], 10) == [None] * 2
    first.join()
    assert outcome["found"] == [None]


def test_the_handshake_ignores_connections_of_other_programs(address):
    outcome = {}
    first = threading.Thread(target=lambda: outcome.update(found=called(address, [(2, 0)], 10)))
    first.start()
    stranger = connected(address)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert called(address, [(2, 1)], 10) == [None]
    first.join()
    assert outcome["found"] == [None]
    stranger.close()


def test_the_error_for_a_coordinator_port_in_use_names_the_port(address, monkeypatch):
    with rollcall.listening(int(address.rpartition(":")[2])):
        for name, value in {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=rf"port \d+, .*\({address}\), is in use: .*give another port"), joined():
            pass


def test_cluster_flags_override_the_environment(address, monkeypatch):
    monkeypatch.setenv("INCEPTION_JAX_DISTRIBUTED", "off")
    monkeypatch.setenv("INCEPTION_JAX_JOIN_TIMEOUT", "0.4")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "7")
    rest, line = taken(["digits", "--coordinator", address, "--seed", "1", "--processes=2", "--process", "1"], MEETING)
    assert rest == ["digits", "--seed", "1"]
    with pytest.raises(LostError, match=f"process 1 of 2 did not reach process 0 at {address}"), joined(line):
        pass
    with joined() as peers:
        assert peers is None


@pytest.mark.parametrize("line", [["--processes"], ["--processes="], ["--processes", "--seed", "1"]])
def test_a_cluster_flag_without_a_value_is_refused(line):
    with pytest.raises(ConfigError, match="--processes has no value"):
        taken(line, MEETING)


def test_a_hello_that_comes_in_pieces_is_heard_whole(address):
    """As over a network: 10 bytes of the head, then the rest, in segments of 1,000."""
    host, port = address.split(":")
    said = json.dumps({"host": "other", "facts": {"long": "x" * 3000}}).encode()
    hello = rollcall.HELLO.pack(rollcall.SIGN, 1, 2, len(said)) + said
    answers = []

    def call():
        with socket.create_connection((host, int(port)), timeout=10) as link:
            for piece in (hello[:10], hello[10:1000], hello[1000:2000], hello[2000:]):
                link.sendall(piece)
                time.sleep(0.1)
            answers.append(link.recv(100))

    def when_it_listens():
        for _ in range(100):
            try:
                return call()
            except ConnectionRefusedError:
                time.sleep(0.05)

    thread = threading.Thread(target=when_it_listens)
    thread.start()
    assemble(address, 2, 0, seconds=20, facts={"long": "x" * 3000})
    thread.join(20)
    assert answers == [rollcall.GO]
