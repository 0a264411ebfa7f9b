"""A run's figures once more, for TensorBoard."""

import time
from collections.abc import Mapping
from contextlib import suppress

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from inception_jax.monitoring.observers import Observer

EVERY = 10.0
"""Seconds after which what was written is sent to the disk."""


class TensorBoardWriter(Observer):
    """Writes an event file into `folder`, as far as the disk takes it: figures that count are in `metrics.jsonl`.

    Written from the thread that calls: `SummaryWriter` has one of its own, which a full disk ends, and its queue then blocks the run.

    Args:
      start: the step that the run goes on from; TensorBoard forgets what an earlier file holds beyond it.
    """

    def __init__(self, folder: epath.Path, *, start: int):
        self._events: EventsWriter | None = None
        self._flushed = time.monotonic()
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))
            self._add(Event(step=start + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))

    def _add(self, event: Event) -> None:
        with suppress(OSError):
            if self._events:
                self._events.write_event(event)
                if (now := time.monotonic()) > self._flushed + EVERY:
                    self._events.flush()
                    self._flushed = now

    def close(self) -> None:
        with suppress(OSError):
            if self._events:
                self._events.close()
