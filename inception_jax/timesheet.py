"""Where the wall time of a run goes."""

import time
from collections.abc import Iterable, Mapping

KINDS = ("step", "input", "log", "compile", "save", "evaluation", "restart")
"""Steps; waiting for data while the devices have nothing to do; writing figures; compiling, with the first step; waiting for storage;
scoring; and what goes before the first step."""
TRAINING = ("step", "input", "log")
"""Those that the speed of a run is made of."""
PREFIX = "perf/seconds_"


class Timesheet:
    """Books every moment since it was begun under one kind: together they are the wall time."""

    def __init__(self) -> None:
        self._spent, self._since = dict.fromkeys(KINDS, 0.0), time.monotonic()
        self._whole = dict.fromkeys(KINDS, 0.0)

    def book(self, kind: str) -> float:
        """Books the seconds that passed since the last booking, and gives them."""
        passed = time.monotonic() - self._since
        self._spent[kind] += passed
        self._whole[kind] += passed
        self._since += passed
        return passed

    def take(self) -> dict[str, float]:
        """Seconds booked since the last call, as metrics: `perf/seconds_step`, ..., of the kinds that took any."""
        spent, self._spent = self._spent, dict.fromkeys(KINDS, 0.0)
        return {PREFIX + kind: seconds for kind, seconds in spent.items() if seconds}

    def training_seconds(self) -> dict[str, float]:
        """Seconds of each kind of `TRAINING` since the beginning."""
        return {kind: self._whole[kind] for kind in TRAINING}

    def summary(self) -> str:
        """`step 81%, input 9%, ...` of all that was booked."""
        whole = sum(self._whole.values())
        return ", ".join(f"{kind} {seconds / whole:.0%}" for kind, seconds in self._whole.items() if seconds)


def spent(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Seconds by kind, of a run's metrics: over all attempts, but for what was made twice."""
    total = dict.fromkeys(KINDS, 0.0)
    for row in rows:
        for kind in KINDS:
            total[kind] += row.get(PREFIX + kind, 0.0)
    return total
