"""Sums of metrics over training steps, and the check that these steps are finite."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import jax

from inception_jax.evaluation.scoring import add_sums

READ_DELAY_STEPS = 8
"""A step's result is read so many steps later, when it is certainly there: no step waits."""


class NotFiniteError(ArithmeticError):
    """A step whose loss or gradient is NaN or infinite.

    Attributes:
      step: The step.
      consecutive: The number of such steps in a row, this one being the last.
    """

    def __init__(self, step: int, consecutive: int = 1):
        super().__init__(f"the loss or the gradient of step {step} was NaN or infinite")
        self.step, self.consecutive = step, consecutive


class MetricAccumulator:
    """Adds up the metrics of training steps.

    Sums stay on the accelerator until they are computed. Whether a step was finite is read eight
    steps after it.

    Args:
      initial_sums: Sums of earlier steps, from a run that stopped between two rows of metrics.
      stop_on_not_finite: Whether a step that is not finite raises `NotFiniteError`; otherwise such
        steps are left out and counted under `not_finite`.
      max_consecutive_skipped: The number of such steps in a row that raises `NotFiniteError` in
        either case.
    """

    def __init__(
        self,
        initial_sums: Mapping[str, float],
        *,
        stop_on_not_finite: bool,
        max_consecutive_skipped: int = 50,
    ):
        self._sums, self._consecutive = dict(initial_sums), 0
        self._max_consecutive = 1 if stop_on_not_finite else max_consecutive_skipped
        self._pending: list[Mapping[str, Any]] = []
        self._unread: deque[tuple[int, jax.Array]] = deque()

    def add(self, step: int, sums: Mapping[str, Any]) -> None:
        """Adds the sums of a dispatched step, without waiting for them.

        Raises:
          NotFiniteError: An earlier step was not finite.
        """
        self._pending.append(sums)
        sums["skipped"].copy_to_host_async()
        self._unread.append((step, sums["skipped"]))
        if len(self._unread) > READ_DELAY_STEPS:
            self._read_oldest()

    def _read_oldest(self) -> None:
        step, is_skipped = self._unread.popleft()
        self._consecutive = self._consecutive + 1 if jax.device_get(is_skipped) else 0
        if self._consecutive >= self._max_consecutive:
            raise NotFiniteError(step, self._consecutive)

    @property
    def is_device_idle(self) -> bool:
        """Whether every step that was added is computed."""
        return not self._pending or self._pending[-1]["skipped"].is_ready()

    def compute(self) -> dict[str, float]:
        """Returns all sums in float64, with the number of `steps`; waits for the accelerator.

        Raises:
          NotFiniteError: A step was not finite.
        """
        while self._unread:
            self._read_oldest()
        added = jax.device_get(self._pending)
        finite = [{**sums, "steps": 1} for sums in added if not sums["skipped"]]
        self._pending = []
        self._sums = add_sums(finite, self._sums)
        self._sums.pop("skipped", None)
        if not_finite := len(added) - len(finite):
            self._sums["not_finite"] = self._sums.get("not_finite", 0.0) + not_finite
        return dict(self._sums)

    def compute_and_reset(self) -> dict[str, float]:
        """Returns what `compute` returns, and starts again from zero."""
        total, self._sums = self.compute(), {}
        return total
