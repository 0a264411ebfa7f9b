"""Before the first step: every process of a run holds what it is against what the others are.

Another commit on one host of thirty-two trains without an error, to something else; another number of devices hangs. What is compared
goes through the store of JAX's coordinator, which needs no accelerator and knows deadlines.
"""

import json
import platform
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from inception_jax.config import ConfigError

DEADLINE = 120.0
"""Seconds that a process waits for what another one says of itself."""


class Store(Protocol):
    """JAX's, of the coordinator."""

    def key_value_set(self, key: str, value: str) -> None: ...

    def blocking_key_value_get(self, key: str, timeout_ms: int) -> str: ...


class SilentError(Exception):
    """A process said nothing of itself."""

    exit_code = 69


def compare(facts: Mapping[str, Any], store: Store, number: int, count: int, *, subject: str, deadline: float = DEADLINE) -> None:
    """Says `facts` of this process, the `number`th of `count`, and holds them against what the others say.

    Args:
      subject: distinguishes this comparison from others of the same run.

    Raises:
      ConfigError: a process differs; the message names its host, the fact, and what most others say. All processes raise it.
      SilentError: one has said nothing before the deadline.
    """
    key = f"inception_jax/{subject}/"
    store.key_value_set(f"{key}{number}", json.dumps({"host": platform.node(), "facts": dict(facts)}))
    said = [json.loads(_heard(store, f"{key}{i}", i, count, deadline)) for i in range(count)]
    if told := differing(said):
        raise ConfigError(f"the processes of this run are not alike: {'; '.join(told)}. Make them alike, and start all of them again")


def differing(said: list[dict[str, Any]]) -> list[str]:
    """A line for each fact in which a process differs from most."""
    lines = []
    for name in dict.fromkeys(name for one in said for name in one["facts"]):
        values = [json.dumps(one["facts"].get(name)) for one in said]
        usual, times = Counter(values).most_common(1)[0]
        odd = [f"process {i} on {said[i]['host']} {value}" for i, value in enumerate(values) if value != usual]
        if odd:
            more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
            lines.append(f"{name} is {usual} on {times} of {len(said)}, but on {', '.join(odd[:4])}{more}")
    return lines


def _heard(store: Store, key: str, number: int, count: int, deadline: float) -> str:
    try:
        return store.blocking_key_value_get(key, int(deadline * 1000))
    except RuntimeError as error:
        raise SilentError(
            f"process {number} of {count} has said nothing of itself within {deadline:.0f} s ({str(error)[:80]}): see what it waits for, "
            "and start all of them again"
        ) from error
