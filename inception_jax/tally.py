"""The sums of a stretch of training steps, and the watch on whether they are finite."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import jax

from inception_jax.evaluation.scoring import totals

BEHIND = 8
"""Steps after which a result is there for certain, so that reading it keeps nobody waiting."""


class NotFiniteError(ArithmeticError):
    """The loss or the gradient of `step` was NaN or infinite, and of the steps before it, `in_a_row` of them together."""

    def __init__(self, step: int, in_a_row: int = 1):
        super().__init__(f"the loss or the gradient of step {step} was NaN or infinite")
        self.step, self.in_a_row = step, in_a_row


class Tally:
    """Adds up what steps give. Sums stay on the accelerator until they are asked for; whether a step was finite is read eight steps
    after it.

    Args:
      kept: the sums of steps before, in the middle of whose stretch a run was stopped.
      stops: whether a step that is not finite raises `NotFiniteError`, or is left out and counted under `not_finite`.
      most_skipped: so many in a row that are left out, of which the last raises `NotFiniteError` all the same.
    """

    def __init__(self, kept: Mapping[str, float], *, stops: bool, most_skipped: int = 50):
        self._kept, self._most_skipped, self._in_a_row = dict(kept), 1 if stops else most_skipped, 0
        self._pending: list[Mapping[str, Any]] = []
        self._unread: deque[tuple[int, jax.Array]] = deque()

    def add(self, step: int, sums: Mapping[str, Any]) -> None:
        """Takes the sums of a step that may not have been made yet."""
        self._pending.append(sums)
        sums["skipped"].copy_to_host_async()
        self._unread.append((step, sums["skipped"]))
        if len(self._unread) > BEHIND:
            self._read()

    def _read(self) -> None:
        step, skipped = self._unread.popleft()
        self._in_a_row = self._in_a_row + 1 if jax.device_get(skipped) else 0
        if self._in_a_row >= self._most_skipped:
            raise NotFiniteError(step, self._in_a_row)

    @property
    def is_waiting(self) -> bool:
        """Whether the devices have nothing left to do of what was added."""
        return not self._pending or self._pending[-1]["skipped"].is_ready()

    def total(self) -> dict[str, float]:
        """All sums of this stretch in float64, and the number of its `steps`; waits for the accelerator."""
        while self._unread:
            self._read()
        made = jax.device_get(self._pending)
        finite = [{**sums, "steps": 1} for sums in made if not sums["skipped"]]
        self._pending = []
        self._kept = totals(finite, self._kept)
        self._kept.pop("skipped", None)
        if missing := len(made) - len(finite):
            self._kept["not_finite"] = self._kept.get("not_finite", 0.0) + missing
        return dict(self._kept)

    def take(self) -> dict[str, float]:
        """The total, after which the next stretch begins."""
        total, self._kept = self.total(), {}
        return total
