"""A workdir and a file of weights that commit 9ac25eb wrote, before fields had a format and data a
fingerprint.

`workdir` is a run of 12 steps of 1.5625 an epoch, stopped at 6; `expected.npz` has what that commit
went on to, and the probabilities that its file of weights gives to the first eight held-out digits.
Its schedule decays each epoch, which there is two steps.
"""

import json
import shutil

import jax
import numpy as np
import pytest

from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.checkpointing.workdir import read_data_facts, resolve_for_resume
from inception_jax.data.registry import open_source
from inception_jax.trainer.runs import open_run
from inception_jax.weights.predictor import Predictor
from tests.conftest import ROOT

OLD = ROOT / "tests" / "old_runs" / "format_1"
LINE = (
    "train",
    "digits",
    "--import",
    "benchmarks.registered",
    "--model.name",
    "one",
    "--data.image-size",
    "16",
    "--data.margin",
    "1",
    "--data.shift",
    "1",
    "--data.threads",
    "0",
    "--data.train-split",
    "train[:100]",
    "--data.test-split",
    "test[:50]",
    "--batch-size",
    "64",
    "--schedule.name",
    "exponential",
    "--schedule.decay-epochs",
    "1.0",
    "--schedule.decay-rate",
    "0.9",
    "--checkpoint-every-epochs",
    "0",
    "--evaluate-every-epochs",
    "0",
    "--keep-checkpoints",
    "1",
    "--seed",
    "3",
    "--steps",
    "12",
    "--workdir",
    "run",
)


@pytest.fixture
def workdir(tmp_path):
    shutil.copytree(OLD / "workdir", tmp_path / "run")
    return tmp_path / "run"


def change(workdir, **fields):
    file = workdir / "experiment.json"
    stored = json.loads(file.read_text())
    assert "format" not in stored
    file.write_text(json.dumps({**stored, **fields}))


@pytest.mark.slow
def test_an_old_run_goes_on_with_the_old_meaning_of_its_fields(workdir, command):
    done = command(*LINE)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("begun by an earlier version: its fields keep their meaning (format 1)")
        == 1
    )
    assert "going on from step 6 of 12" in done.stderr
    _, run, state = open_run(str(workdir))
    expected = np.load(OLD / "expected.npz")
    for name, leaf in flatten_with_names(
        {"params": state.params, "batch_stats": state.batch_stats}
    ):
        np.testing.assert_allclose(
            leaf, expected[name], rtol=2e-4, atol=2e-5, err_msg=name
        )  # another machine rounds otherwise
    assert run.config.format == 1
    assert json.loads((workdir / "experiment.json").read_text())["format"] == 1
    facts = read_data_facts(workdir)
    assert (facts.train.examples, facts.test.examples, len(facts.class_names)) == (100, 50, 10)
    again = command(*LINE)
    assert again.returncode == 0
    assert again.stderr.count("earlier version") == 1


@pytest.mark.slow
def test_an_old_run_under_the_new_meaning_would_be_another(workdir, command):
    """Shows that the test above can fail: periods of 1.5625 steps give another result."""
    assert command(*LINE[:-1], "new").returncode == 0
    state = open_run(str(workdir.parent / "new")).state
    expected = np.load(OLD / "expected.npz")
    apart = max(
        float(np.abs(np.asarray(leaf) - expected[name]).max())
        for name, leaf in flatten_with_names({"params": state.params})
    )
    assert apart > 1e-3


def test_an_old_run_with_a_seed_whose_upper_bits_did_not_count_is_refused(workdir, command):
    change(workdir, seed=2**32 + 3)
    before = {file: file.read_bytes() for file in workdir.rglob("*") if file.is_file()}
    done = command(*LINE, "--seed", str(2**32 + 3))
    assert done.returncode == 78
    assert (
        f"with seed {2**32 + 3}, of which that version used 32 bits and this one uses all"
        in done.stderr
    )
    assert {file: file.read_bytes() for file in workdir.rglob("*") if file.is_file()} == before


def test_a_run_of_the_old_format_can_be_asked_for(workdir, command):
    config = open_run(str(workdir)).run.config
    assert config.format == 1
    assert resolve_for_resume(workdir.parent / "nothing", config) == config


@pytest.mark.slow
def test_an_old_workdir_and_old_weights_give_the_same_predictions(workdir, command, tmp_path):
    source = open_source("digits", "test[:8]")
    images = [source[i].image for i in range(8)]
    expected = np.load(OLD / "expected.npz")["probabilities"]
    np.testing.assert_allclose(
        Predictor(OLD / "weights.safetensors").probabilities(images), expected, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        Predictor(workdir).probabilities(images), expected, rtol=1e-5, atol=1e-6
    )
    assert jax.config.jax_default_prng_impl == "threefry2x32"
