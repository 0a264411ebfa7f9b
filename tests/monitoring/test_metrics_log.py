import io
import json
import re
import struct
import sys
import time
from math import isnan

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from inception_jax.monitoring.metrics_log import MetricsLog, read_metrics
from inception_jax.monitoring.observers import Observers
from inception_jax.monitoring.progress import (
    BAR_FORMAT,
    ProgressBar,
    format_duration,
    format_postfix,
    log_line,
)
from inception_jax.monitoring.tensorboard import TensorBoardWriter


def test_the_metrics_log_drops_rows_after_the_step_that_a_run_resumes_from(tmp_path):
    log = MetricsLog(tmp_path, start=0)
    for step in (2, 4, 6):
        log.write(step, {"train/loss": 1 / step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "train/lo')  # killed while writing
    MetricsLog(tmp_path, start=4).close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4]
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_progress_is_printed_as_plain_lines_without_a_terminal(tmp_path, capsys):
    log = ProgressBar(start=0, steps=100)
    log.restart_clock(0)
    log.advance(50, {"loss": "0.5"})
    log.advance(51)
    log.close()
    assert capsys.readouterr() == ("", "step 50/100 50% loss 0.5 left 0s\n")


def test_tensorboard_events_mirror_the_metrics_log(tmp_path):
    log = Observers(
        MetricsLog(tmp_path, start=0), TensorBoardWriter(tmp_path / "tensorboard", start=0)
    )
    log.write(3, {"train/loss": 0.25})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = list(read_events(file.read_bytes()))
    assert [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ] == [(3, "train/loss", 0.25)]
    assert [event.step for event in events if event.session_log.status == SessionLog.START] == [1]


def read_events(data):
    """Yields the events of a file: a length and its checksum, the event and its checksum."""
    while data:
        (length,) = struct.unpack("Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_the_log_of_a_non_primary_process_prints_and_writes_nothing(tmp_path, capsys):
    progress = ProgressBar(start=0, steps=9, compile_line="compiling", is_primary=False)
    log = Observers(MetricsLog(tmp_path, start=0, is_primary=False), progress)
    log.before_step(1)
    log.after_step(1, {})
    metrics = {"train/loss": 0.25, "train/top1": 0.5, "train/epoch": 1.0}
    log.write(3, metrics | {"perf/images_per_second": 9.0})
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_durations_are_formatted_in_seconds_minutes_and_hours():
    assert [format_duration(seconds) for seconds in (0.4, 61, 3725)] == ["0s", "1m01s", "1h02m"]


def test_a_non_finite_score_is_logged_as_null_and_read_as_nan(tmp_path):
    log = MetricsLog(tmp_path, start=0)
    log.write(2, {"val/loss": float("nan"), "val/top1": 0.1})
    log.write(4, {"val/loss": float("inf"), "val/top1": 0.2})
    log.close()
    MetricsLog(tmp_path, start=4).close()
    first, second = read_metrics(tmp_path)
    assert isnan(first["val/loss"])
    assert isnan(second["val/loss"])


def test_the_progress_bar_shows_the_speed_of_the_log_and_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log = ProgressBar(start=0, steps=100)
    log.advance(40, {"loss": "1.25", "img/s": "608", "steps skipped": "3"})
    log.close()
    shown = capsys.readouterr().err
    assert "40/100" in shown
    assert "img/s=608" in shown
    assert "steps skipped=3" in shown
    assert "left=" in shown
    assert "step/s" not in shown
    assert "s/step" not in shown


@pytest.mark.parametrize(("steps", "step"), [(630, 600), (1_234_567, 1_000_000)])
def test_the_progress_bar_of_80_columns_has_ten_cells_the_speed_and_the_time_left(steps, step):
    file = io.StringIO()
    bar = tqdm(total=steps, ncols=80, bar_format=BAR_FORMAT, file=file, mininterval=0)
    bar.set_postfix_str(
        format_postfix(
            {"epoch": "12.3", "loss": "0.1234", "top1": "0.987", "img/s": "527", "left": "1h02m"}
        ),
        refresh=False,
    )
    bar.update(step)
    bar.close()
    line = file.getvalue().split("\r")[-1]
    assert len(line.rstrip("\n")) <= 80
    assert re.search(r"\|.{10}\| ", line)
    assert "img/s=527" in line
    assert "left=1h02m" in line


def test_the_progress_bar_shows_the_time_during_compilation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log = ProgressBar(start=0, steps=10)
    with log.refresh_every_second():
        time.sleep(2.3)
    log.close()
    shown = capsys.readouterr().err
    assert "00:01" in shown
    assert "00:02" in shown


def test_log_lines_go_to_stderr_without_terminal_control_characters(capsys):
    log_line("class \x1b[2J")
    assert capsys.readouterr() == ("", "class \\x1b[2J\n")
