import pytest
from etils import epath

from inception_jax.checkpointing.workdir import WorkdirLockedError, lock_workdir, make_absolute
from inception_jax.config import ConfigError


def test_workdir_paths_with_a_scheme_stay_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(make_absolute("runs/a")) == str(tmp_path / "runs" / "a")
    # The package that reads gs:// is an extra.
    monkeypatch.setattr("fsspec.get_filesystem_class", lambda scheme: None)
    assert str(make_absolute("gs://bucket/run")) == "gs://bucket/run"


def test_a_workdir_with_an_unknown_scheme_is_refused():
    with pytest.raises(ConfigError, match=r"nonsense://bucket/run: Protocol not known"):
        make_absolute("nonsense://bucket/run")


def test_a_workdir_admits_one_process_at_a_time(tmp_path):
    workdir = epath.Path(tmp_path)
    with (
        lock_workdir(workdir),
        pytest.raises(WorkdirLockedError, match="another process is training in"),
        lock_workdir(workdir),
    ):
        pass
    with lock_workdir(workdir):
        pass
