"""Hooks around the steps of a run, which change nothing that a step computes."""

from collections.abc import Mapping
from typing import Any


class Observer:
    """Hooks around the steps of a run; each does nothing unless a subclass overrides it."""

    def before_step(self, step: int) -> None:
        """Runs before `step` is dispatched, when its batch is ready."""

    def after_step(self, step: int, sums: Mapping[str, Any]) -> None:
        """Runs after `step` was dispatched; its `sums` may not be computed yet."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Gets the metrics of `step` when they are due: after training, after evaluation."""

    def close(self) -> None:
        """Runs once, after the last step."""


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
