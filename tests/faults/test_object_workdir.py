"""A run whose workdir is in an object store: the same run, with no append and no atomic rename."""

import random
from functools import cache

import chex
import pytest
from etils import epath

from benchmarks.small_networks import small
from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.checkpointing.workdir import claim_workdir
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.preemption import PreemptedError
from inception_jax.trainer.loop import find_completed_step, fit
from inception_jax.trainer.runs import open_run
from tests import object_store
from tests.faults.disturbances import flip_bit, stopping_at


@pytest.fixture
def store(monkeypatch):
    serving = object_store.opened()
    objects, environment = next(serving)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # Orbax asks Google's client whether the bucket has real folders.
    monkeypatch.setattr(
        "orbax.checkpoint._src.path.gcs_utils.is_hierarchical_namespace_enabled", lambda path: False
    )
    yield objects
    next(serving, None)


@cache  # a run compiles its steps once
def run(steps):
    return Run(
        small(
            "one",
            steps=steps,
            log_every_steps=2,
            checkpoint_every_epochs=0.1,
            evaluate_every_epochs=0.2,
        ),
        all_devices_placement(),
    )


class Journal(dict):
    """The objects of a store, and in which order they came and went."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def __setitem__(self, name, file):
        self.entries.append((name, file))
        super().__setitem__(name, file)

    def __delitem__(self, name):
        self.entries.append((name, None))
        super().__delitem__(name)

    def after(self, count):
        """Returns the objects after so many of them; a store has an object whole, or not at all."""
        there = {}
        for name, file in self.entries[:count]:
            there[name] = file and file.getvalue()
        return {name: data for name, data in there.items() if data is not None}


def measured(workdir):
    return [
        {name: value for name, value in row.items() if not name.startswith("perf/")}
        for row in read_metrics(workdir)
    ]


@pytest.mark.slow
def test_a_run_in_an_object_store_equals_the_same_run_on_a_disk(store, tmp_path):
    local, remote = epath.Path(tmp_path / "run"), epath.Path("gs://bucket/run")
    for workdir in (local, remote):
        claim_workdir(workdir, run(16).config)
        for steps in (9, 16):
            fit(run(steps), workdir)
        assert find_completed_step(run(16), workdir) == 16
    assert measured(remote) == measured(local)
    assert open_run("gs://bucket/run").state.step == 16
    assert {path.name for path in (remote / "checkpoints").glob("*.json")} == {
        path.name for path in (local / "checkpoints").glob("*.json")
    }

    newest = [path for path in store.store if path.startswith("/bucket/run/checkpoints/16/")]
    largest = epath.Path("gs:/" + max(newest, key=lambda path: len(store.store[path].getvalue())))
    flip_bit(largest)
    told = []
    before = Checkpoints(remote / "checkpoints", keep=2).latest_intact_step(told.append)
    assert before is not None
    assert before < 16
    assert "kept as 16.damaged" in told[0]
    fit(run(16), remote)
    assert measured(remote) == measured(local)


@pytest.mark.slow
def test_a_run_in_an_object_store_resumes_to_the_same_state_after_a_kill_at_any_write(
    store, tmp_path, monkeypatch
):
    """A kill leaves the store as it was after one of the writes: the run goes on from each of
    some, drawn at random.
    """
    local, remote = epath.Path(tmp_path / "run"), epath.Path("gs://bucket/run")
    claim_workdir(local, run(16).config)
    undisturbed, _ = fit(run(16), local)
    journal = Journal()
    monkeypatch.setattr(store, "store", journal)
    claim_workdir(remote, run(16).config)
    fit(run(16), remote)
    moments = sorted(random.Random(0).sample(range(len(journal.entries)), 3))
    for moment in moments:
        there = journal.after(moment)
        monkeypatch.setattr(store, "store", Journal())
        for name, data in there.items():
            store().pipe_file(name, data)
        claim_workdir(remote, run(16).config)
        state, _ = fit(run(16), remote)
        chex.assert_trees_all_equal(state, undisturbed)
        assert measured(remote) == measured(local), moment


@pytest.mark.slow
def test_a_preempted_run_in_an_object_store_resumes_to_the_same_state(store, tmp_path):
    local, remote = epath.Path(tmp_path / "run"), epath.Path("gs://bucket/run")
    claim_workdir(local, run(16).config)
    undisturbed, _ = fit(run(16), local)
    claim_workdir(remote, run(16).config)
    with pytest.raises(PreemptedError):
        fit(run(16), remote, preemption=stopping_at(6))
    assert 1 < max(Checkpoints(remote / "checkpoints", keep=2).steps()) < 16
    state, _ = fit(run(16), remote)
    chex.assert_trees_all_equal(state, undisturbed)
    assert measured(remote) == measured(local)
