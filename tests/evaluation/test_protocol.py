"""A run scored by every protocol; the same to the last example on 1 and 8 devices."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

CODE = """
import json, chex
chex.set_n_cpu_devices(8)
from dataclasses import replace
import jax, numpy as np
from inception_jax.config import Data, Experiment, Model, Norm, Optimizer
from inception_jax.evaluation.predictions import compute_metrics
from inception_jax.evaluation.protocol import Protocol, compare_statistics, score_run
from inception_jax.experiment import Run
from inception_jax.distributed.mesh import make_placement
from inception_jax.models import register
from benchmarks.random_variables import variables as invented
from inception_jax.spec.vocabulary import Architecture, Dropout, Linear, concat, global_avg
from inception_jax.spec.vocabulary import same, table

mixed = concat(same(8, 1), (same(8, 1), same(8, 3)))
rows = table(
    Stem=same(8, 3, 2), Mixed=mixed, Pool=global_avg(), Dropout=Dropout(0.2), Logits=Linear()
)
register("tiny", paper=lambda: Architecture("tiny", "paper", rows, source="a test", input_size=32))
data = Data(
    "synthetic", train_split="train[:4000]", test_split="test[:103]", image_size=32, crop="area",
    flip=True, test_crop="square",
)
norm, optimizer = Norm(examples_per_group=4, decay=0.99), Optimizer("momentum", learning_rate=0.2)
config = Experiment(Model("tiny"), norm, data, optimizer, batch_size=32, steps=40)

def results_on(devices):
    run = Run(config, make_placement(jax.devices()[:devices]))
    variables = jax.device_put(invented(run.network, image_size=32), run.placement.replicated)
    state = run.initial_state().replace(**variables)
    results = {}
    for statistics in ("running", "population", "pooled", "batch"):
        for crops in (1, 10) if statistics == "population" else (1,):
            found = score_run(run, state, Protocol(crops=crops, statistics=statistics, batches=4))
            results[f"{statistics} {crops}"] = compute_metrics(found)
    batch = next(run.test_batches())
    programs = {
        "sums": run.eval_step.lower(variables, batch),
        "likelihoods": run.log_probability_step.lower(variables, batch.image),
    }
    texts = {name: program.compile().as_text() for name, program in programs.items()}
    results["gathers"] = {name: text.count("all-gather(") for name, text in texts.items()}
    results["compiled"] = run.log_probability_step._cache_size()
    found = score_run(run, state, Protocol(crops=6, sizes=(32, 48)))
    alone = [score_run(run, state, Protocol(crops=6, sizes=(size,))) for size in (32, 48)]
    results["two sizes"] = compute_metrics(found)
    mean = (alone[0].probabilities + alone[1].probabilities) / 2
    results["mean of sizes"] = float(abs(found.probabilities - mean).max())
    layers = compare_statistics(run, state, Protocol(batches=5))["layers"]
    results["health"] = [layer["name"] for layer in layers]
    stale = jax.tree.map(lambda x: x, state.batch_stats)
    stale["Mixed"]["branch_1"]["conv_3x3"]["norm"]["mean"] += 40.0
    planted = compare_statistics(run, state.replace(batch_stats=stale), Protocol(batches=4))
    results["planted"] = [planted["layers"][0]["name"], planted["running"], planted["population"]]
    return results

print(json.dumps([results_on(devices) for devices in (1, 8)]))
"""


@pytest.mark.slow
def test_evaluation_protocols_give_the_same_scores_on_1_and_8_devices():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one, eight = json.loads(done.stdout.splitlines()[-1])
    assert (
        one["compiled"] == eight["compiled"] == 1
    )  # the same program for every protocol but that of batch statistics
    assert eight["gathers"]["sums"] == 0  # devices exchange sums alone
    assert eight["gathers"]["likelihoods"] > 0
    for name in ("running 1", "population 1", "population 10", "pooled 1"):
        assert one[name]["count"] == eight[name]["count"] == 103
        for figure in ("top1", "top5"):
            assert one[name][figure] == eight[name][figure]
        assert one[name]["nll"] == pytest.approx(eight[name]["nll"], abs=1e-5)
    assert one["two sizes"]["top1"] == eight["two sizes"]["top1"]
    assert one["two sizes"]["count"] == 103
    assert one["mean of sizes"] < 1e-12
    name, running, population = one["planted"]
    assert name == "Mixed/branch_1/conv_3x3/norm"
    assert population == eight["planted"][2]
    assert running != population  # what the stale statistics cost
    assert len(one["health"]) == 4
    assert one["health"] == eight["health"]
    assert (
        len(
            {
                round(one[name]["nll"], 6)
                for name in ("running 1", "population 1", "pooled 1", "batch 1")
            }
        )
        == 4
    )
    assert np.isfinite(one["batch 1"]["nll"])
