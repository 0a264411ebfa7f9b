"""Hooks around the steps of a run, which change nothing that a step computes."""

from collections.abc import Mapping
from typing import Any


class Observer:
    """Hooks around the steps of a run; each does nothing unless a subclass overrides it."""

    def before_step(self, step: int) -> None:
        """Is called when the batch of `step` is there, and the step is about to be dispatched."""

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        """Is called when `step` was dispatched; its `sums` may not have been computed yet."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Is called with the metrics of `step`, where some are due, after training or after evaluation."""

    def close(self) -> None:
        """Is called once, when no more steps are made."""


class Observers(Observer):
    """Several observers as one, called in order."""

    def __init__(self, *members: Observer):
        self._members = members

    def before_step(self, step: int) -> None:
        for member in self._members:
            member.before_step(step)

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        for member in self._members:
            member.after_step(step, sums)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for member in self._members:
            member.write(step, metrics)

    def close(self) -> None:
        for member in self._members:
            member.close()
