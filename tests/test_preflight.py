import json
import threading

from inception_jax.config import ConfigError
from inception_jax.preflight import SilentError, compare


class Store:
    """In the place of the coordinator's."""

    def __init__(self):
        self.said, self.turn = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self.turn:
            self.said[key] = value
            self.turn.notify_all()

    def blocking_key_value_get(self, key, timeout_ms):
        with self.turn:
            if not self.turn.wait_for(lambda: key in self.said, timeout_ms / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED")
            return self.said[key]


def meet(facts, deadline=10.0):
    """What each of as many processes as there are `facts` makes of it; None is one that never comes."""
    store, found = Store(), {}

    def one(number):
        try:
            compare(facts[number], store, number, len(facts), subject="start", deadline=deadline)
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number, given in enumerate(facts) if given is not None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, store


def test_processes_that_are_alike_go_on():
    assert meet([{"commit": "abc", "devices": 4}] * 8)[0] == {}


def test_the_host_that_differs_is_named_by_all():
    facts = [{"commit": "abc", "jax": "0.10.2", "devices": 4}] * 7 + [{"commit": "xyz", "jax": "0.10.2", "devices": 4}]
    found, store = meet(facts)
    host = json.loads(store.said["inception_jax/start/7"])["host"]
    assert sorted(found) == list(range(8))
    for error in found.values():
        assert isinstance(error, ConfigError)
        assert f'commit is "abc" on 7 of 8, but on process 7 on {host} "xyz"' in str(error)
        assert "jax" not in str(error)


def test_one_that_says_nothing_is_named_at_the_deadline():
    found, _ = meet([{"commit": "abc"}, None, {"commit": "abc"}], deadline=0.2)
    assert all(isinstance(error, SilentError) and "process 1 of 3" in str(error) for error in found.values())
    assert sorted(found) == [0, 2]
