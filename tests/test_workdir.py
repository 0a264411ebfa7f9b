import json

from inception_jax.mesh import everything
from inception_jax.workdir import absolute, record


def test_what_changed_since_a_run_last_ran_is_told(tmp_path):
    workdir, room = absolute(str(tmp_path)), everything()
    assert record(workdir, room) == []
    assert record(workdir, room) == []
    stored = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**stored, "jax": "0.1", "devices": 99}))
    assert record(workdir, room) == [f"devices: 99 -> {room.devices}", f"jax: 0.1 -> {stored['jax']}"]


def test_paths_with_a_scheme_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(absolute("runs/a")) == str(tmp_path / "runs" / "a")
    assert str(absolute("gs://bucket/run")) == "gs://bucket/run"
