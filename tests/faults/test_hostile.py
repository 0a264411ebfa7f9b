"""Hostile files: nothing is unpickled, and no name leads out of its folder."""

import io
import json
import pickle
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random_variables import abstract
from inception_jax.checkpointing.checkpoints import (
    CheckpointError,
    CheckpointMetadata,
    Checkpoints,
    hash_json,
)
from inception_jax.checkpointing.run_record import read_attempts
from inception_jax.cli import main
from inception_jax.config import read_experiment, to_json
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.recipes import load_recipe


class UnpickledError(Exception):
    """The unpickling that must not be."""


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemError('unpickled')",))


@pytest.fixture
def no_pickles(monkeypatch):
    def touched(*arguments, **keywords):
        raise UnpickledError

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, touched)


def test_loading_a_run_unpickles_nothing(tmp_path, no_pickles):
    state = {"kernel": jnp.arange(12.0).reshape(3, 4)}
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, state, metadata=CheckpointMetadata(score=0.5))
    checkpoints.close()
    again = Checkpoints(tmp_path / "checkpoints", keep=1)
    assert again.latest_intact_step(print) == 1
    np.testing.assert_array_equal(again.restore(1, abstract(state))["kernel"], state["kernel"])
    (tmp_path / "experiment.json").write_text(json.dumps(to_json(load_recipe("digits").config)))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "run.json").write_text('{"attempts": []}')
    assert (read_experiment(tmp_path), read_metrics(tmp_path), read_attempts(tmp_path)) == (
        load_recipe("digits").config,
        [{"step": 1}],
        [],
    )


@pytest.mark.parametrize("where", ["arrays", "file"])
def test_report_refuses_a_pickle_in_place_of_arrays(where, tmp_path, capsys):
    """`worst.npz` is what the report reads besides text."""
    (tmp_path / "experiment.json").write_text(json.dumps(to_json(load_recipe("digits").config)))
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "val/top1": 0.5, "val/top5": 0.9, "val/loss": 1.0}\n'
    )
    file = io.BytesIO()
    if where == "arrays":
        np.savez(
            file,
            **dict.fromkeys(
                ("image", "label", "prediction", "probability", "class_names", "example"),
                np.array([Trap()], object),
            ),
        )
    else:
        pickle.dump(Trap(), file)
    (tmp_path / "worst.npz").write_bytes(file.getvalue())
    assert main(["report", str(tmp_path)]) == 65
    said = capsys.readouterr().err
    assert "worst.npz" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/passwd", "state/../../../secret", "~/secret"]
)
def test_a_checkpoint_whose_manifest_names_outside_files_is_refused(name, tmp_path):
    """The names in it are held against those that are there, and never opened; the digest of the
    secret does not help.
    """
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "run" / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(1, {"kernel": jnp.ones(3)})
    checkpoints.close()
    manifest = json.loads((folder / "1.sha256.json").read_text())
    content = {"files": manifest["files"] | {name: hash_json("secret")}, "note": manifest["note"]}
    (folder / "1.sha256.json").write_text(json.dumps({**content, "sha256": hash_json(content)}))
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoints(folder, keep=2).restore(1, abstract({"kernel": jnp.ones(3)}))
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_checkpoint_with_a_symlink_to_an_outside_folder_is_not_used(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2):
        checkpoints.save(step, {"kernel": jnp.ones(3)})
    checkpoints.close()
    outside = tmp_path / "outside"
    shutil.copytree(folder / "2" / "state", outside)
    shutil.rmtree(folder / "2" / "state")
    (folder / "2" / "state").symlink_to(outside)
    assert Checkpoints(folder, keep=2).latest_intact_step(lambda text: None) == 1
    assert outside.is_dir()
