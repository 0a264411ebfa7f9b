"""A run whose workdir is in an object store: the same run, with no append and no atomic rename."""

from dataclasses import replace

import pytest
from etils import epath

from inception_jax.checkpoint import Checkpoints
from inception_jax.experiment import Run
from inception_jax.logbook import read_metrics
from inception_jax.loop import finished, fit
from inception_jax.mesh import everything
from inception_jax.recipes import recipe
from inception_jax.workdir import claim, opened
from tests import object_store


@pytest.fixture
def store(monkeypatch):
    serving = object_store.opened()
    objects, environment = next(serving)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # Orbax asks Google's client whether the bucket has real folders.
    monkeypatch.setattr("orbax.checkpoint._src.path.gcs_utils.is_hierarchical_namespace_enabled", lambda path: False)
    yield objects
    next(serving, None)


def run(steps):
    config = recipe("digits").config
    data = replace(config.data, image_size=16, margin=1, shift=1, threads=0, test_split="test[:50]")
    config = replace(
        config, model=replace(config.model, name="three"), data=data, batch_size=32, steps=steps, log_every_steps=2,
        checkpoint_every_epochs=0.1, evaluate_every_epochs=0.2,
    )  # fmt: skip
    return Run(config, everything())


def measured(workdir):
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in read_metrics(workdir)]


@pytest.mark.slow
def test_a_run_in_an_object_store_is_the_run_on_a_disk(store, tmp_path):
    local, remote = epath.Path(tmp_path / "run"), epath.Path("gs://bucket/run")
    for workdir in (local, remote):
        claim(workdir, run(16).config)
        for steps in (9, 16):
            fit(run(steps), workdir)
        assert finished(run(16), workdir) == 16
    assert measured(remote) == measured(local)
    assert opened("gs://bucket/run").state.step == 16
    assert {path.name for path in (remote / "checkpoints").glob("*.json")} == {path.name for path in (local / "checkpoints").glob("*.json")}

    newest = [path for path in store.store if path.startswith("/bucket/run/checkpoints/16/")]
    largest = epath.Path("gs:/" + max(newest, key=lambda path: len(store.store[path].getvalue())))
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(bytes(data))
    told = []
    before = Checkpoints(remote / "checkpoints", keep=2).sound(told.append)
    assert before is not None
    assert before < 16
    assert "kept as 16.damaged" in told[0]
    fit(run(16), remote)
    assert measured(remote) == measured(local)
