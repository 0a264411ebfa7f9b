"""The wall time of a run, by what it was spent on."""

import time
from collections.abc import Iterable, Mapping

KINDS = ("step", "input", "log", "compile", "save", "evaluation", "restart")
"""Training steps; waiting for data with idle devices; writing metrics; compiling, with the first
step; waiting for storage; evaluation; and the start of the process up to the first batch."""
TRAINING_KINDS = ("step", "input", "log")
"""The kinds that count towards the throughput of a run."""
PREFIX = "perf/seconds_"


class WallTime:
    """Records every second since its creation under one of `KINDS`."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._uncollected = dict.fromkeys(KINDS, 0.0)
        self._total = dict.fromkeys(KINDS, 0.0)

    def record(self, kind: str) -> float:
        """Records the seconds since the last call under `kind`, and returns them."""
        seconds = time.monotonic() - self._since
        self._uncollected[kind] += seconds
        self._total[kind] += seconds
        self._since += seconds
        return seconds

    def collect_metrics(self) -> dict[str, float]:
        """Returns the seconds since the last call as metrics: `perf/seconds_step`, ...

        Kinds of zero seconds are left out.
        """
        recorded, self._uncollected = self._uncollected, dict.fromkeys(KINDS, 0.0)
        return {PREFIX + kind: seconds for kind, seconds in recorded.items() if seconds}

    def training_seconds(self) -> dict[str, float]:
        """Returns the seconds of each of `TRAINING_KINDS` since the creation."""
        return {kind: self._total[kind] for kind in TRAINING_KINDS}

    def format_summary(self) -> str:
        """Returns the share of each kind: `step 81%, input 9%, ...`."""
        total = sum(self._total.values())
        shares = [
            f"{kind} {seconds / total:.0%}" for kind, seconds in self._total.items() if seconds
        ]
        return ", ".join(shares)


def sum_seconds_by_kind(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns the seconds of each kind over the metrics of a run, repeated steps counted once."""
    total = dict.fromkeys(KINDS, 0.0)
    for row in rows:
        for kind in KINDS:
            total[kind] += row.get(PREFIX + kind, 0.0)
    return total
