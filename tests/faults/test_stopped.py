"""A run that is told to stop at any moment goes on to the same bits: in this process;
`test_signals` sends real signals.
"""

from pathlib import Path

import chex
import pytest
from etils import epath

from benchmarks.small_networks import small
from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.checkpointing.workdir import claim_workdir
from inception_jax.debugging.compare_runs import group_metrics_by_step
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.preemption import PreemptedError, PreemptionHandler
from inception_jax.trainer.loop import fit
from tests.faults.disturbances import flip_bit, stopping_at

pytestmark = pytest.mark.slow
STEPS = 16


@pytest.fixture(scope="module")
def run():
    """16 steps, a checkpoint after every 4, an evaluation after every 8."""
    config = small(
        "one",
        steps=STEPS,
        log_every_steps=2,
        checkpoint_every_epochs=0.1,
        evaluate_every_epochs=0.2,
        keep_checkpoints=9,
    )
    return Run(config, all_devices_placement())


@pytest.fixture(scope="module")
def undisturbed(run, tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("undisturbed"))
    claim_workdir(workdir, run.config)
    return workdir, fit(run, workdir)[0]


def number_of_moments(run, workdir):
    """Counts the moments at which a whole run can stop: after each step, and before each batch of
    an evaluation.
    """
    seen, preemption = [], PreemptionHandler()
    preemption.coordinate(lambda: None, lambda: seen.append(1))
    fit(run, workdir, preemption=preemption)
    return len(seen)


def test_a_run_stopped_at_any_moment_resumes_to_the_same_bits(run, undisturbed, tmp_path):
    whole, state = undisturbed
    moments = number_of_moments(run, epath.Path(tmp_path / "counted"))
    assert moments > STEPS + 2  # some are in evaluations
    for moment in (0, 3, *range(7, moments, 4), moments - 1):
        workdir = epath.Path(tmp_path / f"{moment}")
        claim_workdir(workdir, run.config)
        with pytest.raises(PreemptedError):
            fit(run, workdir, preemption=stopping_at(moment))
        saved = Checkpoints(workdir / "checkpoints", keep=9).steps()
        assert (
            saved[-1] == moment + 1 if moment < 8 else saved
        )  # until the first evaluation there is one moment after each step
        found, _ = fit(run, workdir)
        chex.assert_trees_all_equal(found, state)
        assert group_metrics_by_step(str(workdir)) == group_metrics_by_step(str(whole)), moment


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(run, undisturbed, tmp_path, capsys):
    whole, state = undisturbed
    workdir = epath.Path(tmp_path / "hurt")
    claim_workdir(workdir, run.config)
    with pytest.raises(PreemptedError):
        fit(run, workdir, preemption=stopping_at(9))
    checkpoints = workdir / "checkpoints"
    newest = Checkpoints(checkpoints, keep=9).steps()[-1]
    largest = max(
        Path(checkpoints / str(newest)).rglob("*"),
        key=lambda path: path.is_file() and path.stat().st_size,
    )
    flip_bit(largest)
    capsys.readouterr()
    found, _ = fit(run, workdir)
    said = capsys.readouterr().err
    assert f"checkpoint {newest} in" in said
    assert "is damaged" in said
    assert f"it is kept as {newest}.damaged" in said
    assert (checkpoints / f"{newest}.damaged").is_dir()
    chex.assert_trees_all_equal(found, state)
    assert group_metrics_by_step(str(workdir)) == group_metrics_by_step(str(whole))
