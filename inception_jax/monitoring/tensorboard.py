"""The metrics of a run as TensorBoard event files."""

import time
from collections.abc import Mapping
from contextlib import suppress

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from inception_jax.monitoring.observers import Observer

FLUSH_SECONDS = 10.0
"""The time after which written events are flushed to the disk."""


class TensorBoardWriter(Observer):
    """Writes the metrics of a run to an event file in `folder`.

    Errors of the disk are ignored: the reference for metrics is `metrics.jsonl`. Events are written
    by the calling thread. `SummaryWriter` has a thread of its own, which a full disk ends; its
    queue then blocks the run.

    Args:
      start: The step from which the run resumes. TensorBoard drops later events of earlier files.
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
                if (now := time.monotonic()) > self._flushed + FLUSH_SECONDS:
                    self._events.flush()
                    self._flushed = now

    def close(self) -> None:
        with suppress(OSError):
            if self._events:
                self._events.close()
