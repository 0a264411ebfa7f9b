"""A run whose rows are computed by a loop is the run that it is without: in the folder every row has its name."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from etils import epath

from inception_jax.experiment import Run
from inception_jax.loop import fit
from inception_jax.mesh import everything
from inception_jax.nn.repeated import pack, unpack
from inception_jax.replay import replay
from inception_jax.spec.rewrite import best
from tests.invented import apart
from tests.networks import small

RUNS = [("b_1", "b_2"), ("c_1", "c_2", "c_3")]


@cache  # a run compiles its step once
def run_of(rewrites, steps, freeze=()):
    config = small(steps=steps, evaluate_every_epochs=0, checkpoint_every_epochs=0, log_every_steps=1)
    optimizer = replace(config.optimizer, freeze=freeze, average_decay=0.9)
    return Run(
        replace(config, model=replace(config.model, name="deep", dtype="float64", rewrites=rewrites), optimizer=optimizer), everything()
    )


def test_unpack_inverts_pack_for_looped_rows():
    tree = {name: {"kernel": np.full((2, 3), i), "norm": {"scale": np.arange(3) + i}} for i, name in enumerate(["a", *RUNS[0], *RUNS[1]])}
    state = ({"params": tree}, [tree, 3])
    packed = pack(state, RUNS)
    assert {name: leaf["kernel"].shape for name, leaf in packed[1][0].items()} == {
        "a": (2, 3),
        "b_1..b_2": (2, 2, 3),
        "c_1..c_3": (3, 2, 3),
    }
    again = unpack(packed, RUNS)
    jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_two_looped_steps_and_two_plain_steps_equal_four_plain_steps(tmp_path):
    plain = run_of((), 4)
    wanted, scores = fit(plain, epath.Path(tmp_path / "plain"))
    for first, second in ((("loop_repeats",), ()), ((), ("loop_repeats",))):
        workdir = epath.Path(tmp_path / "-".join(("halves", *first)))
        fit(run_of(first, 2), workdir)
        found, results = fit(run_of(second, 4), workdir)
        assert apart(found, wanted) < 1e-9
        assert results["loss"] == pytest.approx(scores["loss"], rel=1e-9)
    looped = run_of(("loop_repeats",), 4)
    assert looped.abstract_packed_state().params.keys() == {"Stem", "Block_1..Block_3", "Logits"}


@pytest.mark.nightly
@pytest.mark.usefixtures("x64")
def test_replay_names_the_layers_of_rows_that_are_computed_in_a_loop():
    plain = run_of((), 4)
    state = plain.initial_state()
    seen = {one.layer for one in replay(plain, state).seen}
    for rules in (("loop_repeats",), best(plain.network.architecture, "tpu")):
        assert {one.layer for one in replay(run_of(rules, 4), state).seen} == seen


@pytest.mark.nightly
@pytest.mark.usefixtures("x64")
def test_a_row_frozen_by_name_stays_unchanged_inside_a_loop(tmp_path):
    run = run_of(("loop_repeats",), 2, freeze=("Block_2/*",))
    begun = run.initial_state().params
    found = fit(run, epath.Path(tmp_path))[0].params
    jax.tree.map(np.testing.assert_array_equal, found["Block_2"], begun["Block_2"])
    assert apart(found["Block_1"], begun["Block_1"]) > 0
    assert apart(found, fit(run_of((), 2, freeze=("Block_2/*",)), epath.Path(tmp_path / "plain"))[0].params) < 1e-9
