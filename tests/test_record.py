import json

import pytest
from etils import epath

from inception_jax.config import ConfigError
from inception_jax.mesh import everything
from inception_jax.record import Record, attempts


def test_the_run_record_keeps_the_beginning_end_and_outcome_of_each_attempt(tmp_path):
    workdir, room = epath.Path(tmp_path), everything()
    record = Record(workdir)
    assert record.begin(room) == []
    assert [(one["ended"], one["outcome"]) for one in attempts(workdir)] == [(None, None)]  # as one that is killed leaves it
    record = Record(workdir)
    assert record.begin(room) == []
    record.end("complete")
    first, second = attempts(workdir)
    assert (first["outcome"], second["outcome"]) == (None, "complete")
    assert first["began"] <= second["began"] <= second["ended"]
    assert second["backend"] == "cpu"
    assert "uncommitted" in second


def test_the_run_record_reports_changes_since_the_last_attempt(tmp_path):
    workdir, room = epath.Path(tmp_path), everything()
    Record(workdir).begin(room)
    (stored,) = attempts(workdir)
    (tmp_path / "run.json").write_text(json.dumps({"attempts": [{**stored, "jax": "0.1", "devices": 99}]}))
    assert Record(workdir).begin(room) == [f"devices: 99 -> {room.devices}", f"jax: 0.1 -> {stored['jax']}"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempts": 3}', '{"attempts": [4]}', '{"jax": 1}'])
def test_a_run_record_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run.json cannot be read .*: move it away"):
        Record(epath.Path(tmp_path))


def test_a_non_primary_process_writes_no_run_record(tmp_path):
    record = Record(epath.Path(tmp_path), leads=False)
    record.begin(everything())
    record.end("complete")
    assert list(tmp_path.iterdir()) == []
