"""The profile of some steps of a run, and the record of its wall time."""

import time
from pathlib import Path

import pytest
from etils import epath

from benchmarks.small_networks import small
from inception_jax.config import ConfigError, to_json
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.monitoring.metrics_log import read_metrics
from inception_jax.monitoring.wall_time import sum_seconds_by_kind
from inception_jax.trainer.loop import fit


@pytest.mark.slow
def test_a_run_writes_a_profile_for_tensorboard_and_its_wall_time_adds_up(tmp_path, capsys):
    run = Run(
        small(
            steps=6, log_every_steps=2, checkpoint_every_epochs=4 * 32 / 1347, profile_steps="3:4"
        ),
        all_devices_placement(),
    )
    began = time.monotonic()
    fit(run, epath.Path(tmp_path))
    seconds = time.monotonic() - began
    assert [
        file.suffixes for file in Path(tmp_path).glob("tensorboard/plugins/profile/*/*.pb")
    ] == [[".xplane", ".pb"]]
    stderr = capsys.readouterr().err
    assert "a profile of steps 3 to 4 is in" in stderr
    assert "the wall time went into: step" in stderr
    kinds = sum_seconds_by_kind(read_metrics(tmp_path))
    assert all(kinds.values()), kinds
    assert 0.8 * seconds < sum(kinds.values()) <= seconds  # the last save ends after the last row


@pytest.mark.parametrize("wrong", ["5", "4:3", "0:3", "a:b"])
def test_profile_steps_that_are_not_a_range_are_refused(wrong):
    config = small(profile_steps=wrong)
    assert to_json(config)["profile_steps"] == wrong
    with pytest.raises(ConfigError, match="give the first and the last step"):
        config.check()
