"""Tests of `fit`: wall time by kind, saving before evaluation, and the limit of skipped steps."""

import time
from dataclasses import replace
from itertools import pairwise

import chex
import jax
import pytest
from etils import epath
from jax.experimental.layout import Layout

from benchmarks.small_networks import small
from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.data.source import DataError
from inception_jax.distributed.mesh import KERNEL_LAYOUTS, all_devices_placement
from inception_jax.experiment import Run
from inception_jax.models import REGISTRY, register
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.monitoring.wall_time import KINDS, PREFIX, sum_seconds_by_kind
from inception_jax.spec.vocabulary import Architecture, Linear, global_avg, layer, same, table
from inception_jax.trainer.divergence import DivergedError
from inception_jax.trainer.loop import find_completed_step, fit
from tests import sleeping
from tests.faults import poison

pytestmark = pytest.mark.slow


def build_sleepy() -> Architecture:
    rows = table(
        Stem=same(4, 3, 2), Rest=layer("tests.sleeping:Sleep"), Pool=global_avg(), Logits=Linear()
    )
    return Architecture("sleepy", "paper", rows, "a test", 16, num_classes=10)


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """Trains with steps of 0.4 s, one save and one evaluation in the middle.

    Returns the rows of metrics, the wall time in seconds, and when each step slept.
    """
    register("sleepy", paper=build_sleepy)
    cadence = {"checkpoint_every_epochs": 6 * 4 / 1347, "evaluate_every_epochs": 6 * 4 / 1347}
    config = small("sleepy", batch_size=4, steps=14, log_every_steps=3, **cadence)
    config = replace(config, norm=replace(config.norm, examples_per_group=0))
    workdir = epath.Path(tmp_path_factory.mktemp("timed"))
    sleeping.moments.clear()
    began = time.monotonic()
    fit(Run(config, all_devices_placement()), workdir)
    yield read_metrics(workdir), time.monotonic() - began, list(sleeping.moments)
    REGISTRY.pop("sleepy")


def test_the_seconds_of_all_kinds_add_up_to_the_wall_clock(timed):
    rows, wall, _ = timed
    assert sum(sum_seconds_by_kind(rows).values()) == pytest.approx(wall, rel=0.05)
    assert {
        name.removeprefix(PREFIX) for row in rows for name in row if name.startswith(PREFIX)
    } <= {*KINDS}


def test_seconds_of_steps_match_the_wall_clock(timed):
    """Compares with the time from one step's sleep to the next, without storage and data."""
    rows, _, moments = timed
    assert len(moments) == 14
    took = [
        after - before
        for step, (before, after) in enumerate(pairwise(moments), 1)
        if step not in (1, 6, 12)
    ]
    assert min(took) > sleeping.SECONDS
    assert sum_seconds_by_kind(rows)["step"] == pytest.approx(13 * sum(took) / len(took), rel=0.05)


def test_images_per_second_are_images_over_the_wall_seconds_of_their_interval(timed):
    """Compares with intervals that have no evaluation or save; these come at ends of intervals."""
    rows, _, moments = timed
    rated = [row for row in rows if "perf/images_per_second" in row]
    assert [row["step"] for row in rated] == [3, 6, 9, 12, 14]
    # An evaluation follows steps 6 and 12.
    pairs = [(first, last) for first, last in pairwise(rated) if first["step"] not in (6, 12)]
    wall = sum(
        moments[int(last["step"]) - 1] - moments[int(first["step"]) - 1] for first, last in pairs
    )
    rated_seconds = sum(
        4 * (last["step"] - first["step"]) / last["perf/images_per_second"] for first, last in pairs
    )
    assert rated_seconds == pytest.approx(wall, rel=0.05)


def test_no_time_is_recorded_as_saving_where_nothing_is_saved(timed):
    rows, *_ = timed
    assert not [
        row["step"]
        for row in rows
        if row.get("perf/seconds_save", 0) > 0.01 and row["step"] not in (6, 9, 12, 14)
    ]


def break_test_data(run: Run) -> Run:
    """Makes the held-out data of a run unreadable."""

    def unreadable(*_):
        raise DataError("test/a/01.png cannot be read")

    object.__setattr__(run, "test_batches", unreadable)
    return run


@pytest.mark.parametrize("due", [4, 3], ids=["with the checkpoint", "between checkpoints"])
def test_an_evaluation_that_fails_loses_no_step(due, tmp_path):
    workdir, share = epath.Path(tmp_path), 32 / 1347
    config = small(
        "one", steps=8, checkpoint_every_epochs=4 * share, evaluate_every_epochs=due * share
    )
    with pytest.raises(DataError, match="cannot be read"):
        fit(break_test_data(Run(config, all_devices_placement())), workdir)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2, is_primary=False)
    assert checkpoints.steps() == [due]
    assert checkpoints.read_metadata(due).is_unscored
    assert find_completed_step(Run(config, all_devices_placement()), workdir) is None
    state, results = fit(Run(config, all_devices_placement()), workdir)
    assert int(state.step) == 8
    assert results["count"] == 50
    assert [row["step"] for row in read_metrics(workdir) if "val/top1" in row] == sorted(
        {due, *range(due, 9, due), 8}
    )


def test_a_run_whose_steps_are_all_skipped_ends_with_70_after_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(poison, "POISONED", 9 * 32 + 1)
    monkeypatch.setattr(
        Run, "prepare_training", lambda run, batch, keys: poison.poisoned(run, batch, keys)
    )
    config = small("one", steps=40, on_not_finite="skip_and_count", max_consecutive_skipped=6)
    fit(
        Run(replace(config, steps=20), all_devices_placement()),
        epath.Path(tmp_path / "one bad step"),
    )

    def poison_all(run, batch, keys):
        return poison.clean(run, batch, keys)[0] * float("nan"), batch.label

    monkeypatch.setattr(Run, "prepare_training", poison_all)
    message = (
        r"step \d+ was NaN or infinite, the last of 6 such steps in a row "
        r"\(limit: max_consecutive_skipped\)"
    )
    with pytest.raises(DivergedError, match=message):
        fit(Run(config, all_devices_placement()), epath.Path(tmp_path / "all bad"))


KERNEL_LAYOUT = Layout((3, 0, 1, 2))


def train_small(workdir, steps, *stops):
    """Returns the last state of a run that ends at each of `stops` and then at `steps`."""
    for stop in (*stops, steps):
        config = small("mixed", steps=stop)
        config = replace(config, schedule=replace(config.schedule, warmup_epochs=0))
        run = Run(config, all_devices_placement())
        state, _ = fit(run, epath.Path(workdir))
    return run, state


def test_a_run_keeps_kernels_in_the_layout_of_the_platform_and_checkpoints_do_not(
    tmp_path, monkeypatch
):
    """Two and two steps are four bit for bit, and a run in another layout reads the same arrays."""
    monkeypatch.setitem(KERNEL_LAYOUTS, "cpu", KERNEL_LAYOUT)
    _, whole = train_small(tmp_path / "whole", 4)
    run, halves = train_small(tmp_path / "halves", 4, 2)
    kernels = [leaf for leaf in jax.tree.leaves(whole) if leaf.ndim == 4]
    assert kernels
    assert {leaf.format.layout.major_to_minor for leaf in kernels} == {(3, 0, 1, 2)}
    chex.assert_trees_all_equal(halves, whole)
    assert run.train_step._cache_size() == 1  # no step got a state in another layout
    monkeypatch.undo()
    checkpoints = Checkpoints(epath.Path(tmp_path / "whole/checkpoints"), keep=1)
    restored = checkpoints.restore(4, Run(run.config, all_devices_placement()).abstract_state())
    chex.assert_trees_all_equal(restored, whole)
    kernels = [leaf for leaf in jax.tree.leaves(restored) if leaf.ndim == 4]
    assert {leaf.format.layout.major_to_minor for leaf in kernels} == {(0, 1, 2, 3)}
