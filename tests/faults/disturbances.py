"""Ways to disturb a run in the tests' own process: a damaged file, a request to stop."""

from pathlib import Path

from inception_jax.preemption import PreemptionHandler


def flip_bit(file: Path) -> None:
    """Flips a bit in the middle of a file, local or in an object store."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def stopping_at(number: int) -> PreemptionHandler:
    """Returns an preemption that is asked for at the `number`-th, from 0, of the moments at which
    a run can stop.
    """
    moments, preemption = iter(range(1000)), PreemptionHandler()
    preemption.coordinate(lambda: None, lambda: next(moments) == number)
    return preemption
