"""The replay of a step with one injected fault names its layer."""

import json
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from inception_jax.commands.replay import format_replay
from inception_jax.config import Norm
from inception_jax.debugging.replay import replay_step
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.models import REGISTRY, register
from inception_jax.recipes import load_recipe
from inception_jax.spec.vocabulary import (
    Architecture,
    Linear,
    Softmax,
    global_avg,
    layer,
    same,
    table,
)
from inception_jax.trainer.divergence import report_divergence


class Root(nn.Module):
    """A layer with a finite output, whose gradient is infinite where the parameter is 0."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return x + 1e-3 * jnp.sqrt(self.param("power", nn.initializers.constant(4.0), ()))


def build_architecture():
    root = layer("tests.debugging.test_replay:Root", output_shape=lambda shape: shape)
    layers = table(
        Stem=same(4, 3, 4),
        Root=root,
        Last=same(4, 1),
        Pool=global_avg(),
        Logits=Linear(),
        Predictions=Softmax(),
    )
    return Architecture("rooted", "paper", layers, "a test", 16, num_classes=10)


@pytest.fixture(scope="module")
def run():
    register("rooted", paper=build_architecture)
    config = load_recipe("digits").config
    data = replace(config.data, image_size=16, margin=1, translate=1, threads=0)
    yield Run(
        replace(
            config,
            model=replace(config.model, name="rooted"),
            data=data,
            batch_size=8,
            norm=Norm(examples_per_group=4),
        ),
        all_devices_placement(),
    )
    REGISTRY.pop("rooted")


def inject(state, place, value):
    """Returns `state` with `value` in the first entry of one array."""

    def replace_first(path, leaf):
        name = "/".join(key.key for key in path)
        return leaf.at[(0,) * leaf.ndim].set(value) if name == place else leaf

    params = jax.tree_util.tree_map_with_path(replace_first, state.params)
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True)
    )
    return state.replace(params=params)


@pytest.mark.slow
def test_replay_of_a_finite_step_finds_no_fault_and_the_loss_of_the_compiled_step(run):
    state = run.initial_state()
    replayed = replay_step(run, state)
    assert (replayed.step, replayed.first_not_finite) == (1, None)
    assert format_replay(replayed).startswith("step 1 is finite in all of its ")
    assert [array.layer for array in replayed.arrays if array.what == "output"][-1] == "loss"
    (batch,) = run.train_batches(0, 1)
    _, sums = run.train_step(state, batch)
    (loss,) = [array for array in replayed.arrays if array.layer == "loss"]
    assert loss.largest == pytest.approx(float(sums["loss"] / sums["count"]), rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "value", "what", "layer"),
    [
        ("Stem/conv_3x3/kernel", np.nan, "parameter", "Stem/conv_3x3/kernel"),
        ("Last/conv_1x1/norm/scale", 3e38, "output", "Last/conv_1x1/norm"),
        ("Root/layer/power", 0.0, "gradient", "Root/layer/power"),
    ],
)
def test_replay_names_the_first_layer_that_is_not_finite(run, place, value, what, layer):
    state = run.initial_state()
    names = [
        "/".join(key.key for key in path)
        for path, _ in jax.tree_util.tree_flatten_with_path(state.params)[0]
    ]
    assert place in names, names
    first = replay_step(run, inject(state, place, value)).first_not_finite
    assert first is not None
    assert (first.what, first.layer) == (what, layer)


@pytest.mark.slow
def test_diverged_json_lists_the_examples_of_a_non_finite_step(run, tmp_path):
    message = report_divergence(run, 3, epath.Path(tmp_path))
    record = json.loads((tmp_path / "diverged.json").read_text())
    assert record["positions"] == list(range(16, 24))
    (batch,) = run.train_batches(2, 3)
    assert [run.train_source[index].label for index in record["examples"]] == batch.label.tolist()
    assert "replay" in message
    assert "optimizer.learning_rate" in message
