import json

import pytest
from etils import epath

from inception_jax.checkpointing.run_record import RunRecord, read_attempts
from inception_jax.config import ConfigError
from inception_jax.distributed.mesh import all_devices_placement


def test_the_run_record_keeps_the_beginning_end_and_outcome_of_each_attempt(tmp_path):
    workdir, placement = epath.Path(tmp_path), all_devices_placement()
    record = RunRecord(workdir)
    assert record.begin_attempt(placement) == []
    (attempt,) = read_attempts(workdir)
    assert (attempt["ended"], attempt["outcome"]) == (None, None)  # as after a kill
    record = RunRecord(workdir)
    assert record.begin_attempt(placement) == []
    record.end_attempt("complete")
    first, second = read_attempts(workdir)
    assert (first["outcome"], second["outcome"]) == (None, "complete")
    assert first["began"] <= second["began"] <= second["ended"]
    assert second["backend"] == "cpu"
    assert "uncommitted" in second


def test_the_run_record_reports_changes_since_the_last_attempt(tmp_path):
    workdir, placement = epath.Path(tmp_path), all_devices_placement()
    RunRecord(workdir).begin_attempt(placement)
    (stored,) = read_attempts(workdir)
    (tmp_path / "run.json").write_text(
        json.dumps({"attempts": [{**stored, "jax": "0.1", "devices": 99}]})
    )
    assert RunRecord(workdir).begin_attempt(placement) == [
        f"devices: 99 -> {placement.devices}",
        f"jax: 0.1 -> {stored['jax']}",
    ]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"attempts": 3}', '{"attempts": [4]}', '{"jax": 1}']
)
def test_a_run_record_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run.json cannot be read .*: move it away"):
        RunRecord(epath.Path(tmp_path))


def test_a_non_primary_process_writes_no_run_record(tmp_path):
    record = RunRecord(epath.Path(tmp_path), is_primary=False)
    record.begin_attempt(all_devices_placement())
    record.end_attempt("complete")
    assert list(tmp_path.iterdir()) == []


def test_the_run_record_names_changed_files_and_holds_no_patch(tmp_path, monkeypatch):
    """Reports are shared, and the patch of a working tree may contain a secret."""
    answers = {
        "diff --name-only HEAD -- .": "a.py\n",
        "diff HEAD -- .": "+++ b/a.py\n+PASSWORD = 'secret'\n",
    }
    monkeypatch.setattr(
        "inception_jax.checkpointing.run_record._run_git",
        lambda *arguments: answers.get(" ".join(arguments), ""),
    )
    RunRecord(epath.Path(tmp_path)).begin_attempt(all_devices_placement())
    text = (tmp_path / "run.json").read_text()
    assert "secret" not in text
    (attempt,) = read_attempts(epath.Path(tmp_path))
    assert attempt["uncommitted"]["files"] == ["a.py"]
    assert len(attempt["uncommitted"]["sha256"]) == 12
    answers["diff HEAD -- ."] += "+x = 1\n"
    assert RunRecord(epath.Path(tmp_path)).begin_attempt(all_devices_placement()) == [
        "uncommitted changes"
    ]


def test_the_patch_of_an_earlier_versions_record_is_read_as_its_digest(tmp_path):
    RunRecord(epath.Path(tmp_path)).begin_attempt(all_devices_placement())
    (stored,) = read_attempts(epath.Path(tmp_path))
    old = {**stored, "uncommitted": "diff --git a/x b/x\n+++ b/x\n+TOKEN = 'secret'\n"}
    (tmp_path / "run.json").write_text(json.dumps({"attempts": [old]}))
    (attempt,) = read_attempts(epath.Path(tmp_path))
    assert attempt["uncommitted"]["files"] == ["x"]
    assert "secret" not in json.dumps(attempt)
