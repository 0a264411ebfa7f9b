"""Names of version 0.1 that this version reads: flags, fields, rewrites and a recipe's variable.

`tests/old_runs/version_0_1` holds a run that commit 46a6ed2 wrote: `workdir` was stopped at step 6
of 12, `expected.npz` has the arrays at step 12 and the probabilities that its exported weights give
to the first eight held-out digits.
"""

import json
import shlex
import shutil

import numpy as np
import pytest

from inception_jax import old_names
from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.config import ConfigError, from_json
from inception_jax.data.registry import open_source
from inception_jax.recipes import load_recipe
from inception_jax.trainer.runs import open_run
from inception_jax.weights.predictor import Predictor
from tests.conftest import ROOT

OLD = ROOT / "tests" / "old_runs" / "version_0_1"
OLD_FLAGS = (
    "--data.shift 1 --data.stretch=0.1 --data.turn 10 --data.slant 5 "
    "--model.rewrites project_first join_siblings one_pass"
)
NEW_FLAGS = (
    "--data.translate 1 --data.scale=0.1 --data.rotate 10 --data.shear 5 "
    "--model.rewrites project_before_pool merge_sibling_convs single_pass_moments"
)
LINE = (
    "train digits --import benchmarks.registered --model.name one --data.image-size 16 "
    "--data.margin 1 --data.threads 0 --data.train-split train[:96] --data.test-split test[:50] "
    "--batch-size 16 --norm.examples-per-group 8 --schedule.warmup-epochs 0 "
    "--schedule.decay-epochs 1 --checkpoint-every-epochs 1 --evaluate-every-epochs 0 "
    "--keep-checkpoints 2 --seed 3 --epochs 2 --workdir run "
)
RENAMED = "{} is now called {}; the old name is read until the next release"


@pytest.fixture
def workdir(tmp_path):
    shutil.copytree(OLD / "workdir", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "is_old"), [(OLD_FLAGS, True), (NEW_FLAGS, False)])
def test_a_run_of_version_0_1_resumes_to_the_same_arrays(workdir, process, flags, is_old):
    done = process(*shlex.split(LINE + flags))
    assert done.returncode == 0, done.stderr
    assert "going on from step 6 of 12" in done.stderr
    for old, new in old_names.FIELDS["data"].items():
        assert done.stderr.count(RENAMED.format(f"data.{old}", f"data.{new}")) == 1
        flag = RENAMED.format(f"--data.{old}", f"--data.{new}")
        assert done.stderr.count(flag) == is_old
    assert ("project_first is now called project_before_pool" in done.stderr) == is_old
    expected = np.load(OLD / "expected.npz")
    state = open_run(str(workdir)).state
    arrays = flatten_with_names({"params": state.params, "batch_stats": state.batch_stats})
    for name, array in arrays:  # another machine rounds otherwise
        np.testing.assert_allclose(array, expected[name], rtol=2e-4, atol=2e-5, err_msg=name)
    fields = json.loads((workdir / "experiment.json").read_text())["data"]
    assert (fields["translate"], fields["shear"]) == (1.0, 5.0)
    assert not old_names.FIELDS["data"].keys() & fields.keys()


@pytest.mark.slow
def test_weights_of_version_0_1_give_the_same_probabilities():
    source = open_source("digits", "test[:8]")
    images = [source[i].image for i in range(8)]
    probabilities = Predictor(OLD / "weights.safetensors").probabilities(images)
    expected = np.load(OLD / "expected.npz")["probabilities"]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-6)


def test_a_recipe_with_the_old_name_of_its_assumptions_is_read_with_a_note(tmp_path, caplog):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Mine."""\nfrom inception_jax.config import Experiment\n'
        'config = Experiment()\nstand_in = {"seed": "not published"}\n'
    )
    assert load_recipe(str(file)).assumptions == {"seed": "not published"}
    assert RENAMED.format("a recipe's stand_in", "assumptions") in caplog.text


def test_an_unknown_field_is_refused_as_before():
    with pytest.raises(ConfigError, match=r"data\.shifts: Data has no such field"):
        from_json({"data": {"shifts": 1.0}})
