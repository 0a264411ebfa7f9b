import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random_variables import abstract
from inception_jax.checkpointing import checkpoints as checkpoints_module
from inception_jax.checkpointing.checkpoints import (
    SKIP_ARRAY,
    CheckpointError,
    Checkpoints,
    hash_files,
)
from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import State


def state(value=0.0, width=4):
    params = {"conv": {"kernel": jnp.full((3, width), float(value)), "bias": jnp.zeros(width)}}
    rule = make_optimizer("rmsprop", 0.1, clip_norm=1.0)
    return State(
        jnp.int32(7),
        params,
        {"norm": {"mean": jnp.ones(width)}},
        rule.init(params),
        {},
        jnp.int32(0),
    )


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    checkpoints.close()
    return tmp_path / "checkpoints"


def test_a_checkpoint_restores_what_was_saved(saved):
    restored = Checkpoints(saved, keep=2).restore(3, abstract(state()))
    chex.assert_trees_all_equal(restored, state(3))
    assert type(restored) is State


def test_the_newest_checkpoints_are_kept_each_with_its_manifest(saved):
    assert Checkpoints(saved, keep=2).steps() == [2, 3]
    assert json.loads((saved / "3.sha256.json").read_text())["files"] == hash_files(saved / "3")
    assert not (saved / "1.sha256.json").exists()


def test_a_flipped_byte_in_a_checkpoint_is_detected(saved):
    file = max(
        (path for path in (saved / "3").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"checkpoint 3 .* is damaged: .*{file.name}"):
        Checkpoints(saved, keep=2).restore(3, abstract(state()))


def test_a_checkpoint_without_a_manifest_counts_as_unfinished_and_is_overwritten(saved):
    (saved / "3.sha256.json").unlink()
    checkpoints = Checkpoints(saved, keep=2)
    assert checkpoints.steps() == [2]
    checkpoints.save(3, state(33))
    checkpoints.close()
    restored = Checkpoints(saved, keep=2).restore(3, abstract(state()))
    assert float(restored.params["conv"]["kernel"][0, 0]) == 33


def test_restore_refuses_a_checkpoint_of_another_network_by_its_shapes(saved):
    with pytest.raises(
        CheckpointError,
        match=r"params.conv.kernel: saved \(3, 4\) float32, wanted \(3, 5\) float32",
    ):
        Checkpoints(saved, keep=2).restore(3, abstract(state(width=5)))


def test_saving_is_safe_while_later_steps_donate_the_state(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    current = state(1.0, width=300_000)
    checkpoints.save(1, current)
    for _ in range(20):
        current = step(current)
    checkpoints.close()
    restored = Checkpoints(tmp_path, keep=1).restore(1, abstract(state(width=300_000)))
    np.testing.assert_array_equal(restored.params["conv"]["kernel"], 1.0)


def test_checkpoint_array_names_are_dotted_paths_through_classes_and_dictionaries():
    assert dict(flatten_with_names(state()))["opt_state.1.0.nu.conv.kernel"].shape == (3, 4)


@pytest.mark.parametrize("width", [4, 300_000])
def test_restore_does_not_read_arrays_that_are_not_wanted(tmp_path, width):
    """Covers packed (small) and separate (large) arrays."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, state(1.0, width=width))
    checkpoints.close()
    wanted = abstract(state(width=width))
    unread = jax.tree.map(lambda leaf: SKIP_ARRAY, wanted.opt_state)
    restored = Checkpoints(tmp_path, keep=1).restore(1, wanted.replace(opt_state=unread))
    assert set(jax.tree.leaves(restored.opt_state)) == {SKIP_ARRAY}
    chex.assert_trees_all_equal(restored.params, state(1.0, width=width).params)


@pytest.mark.parametrize(
    "layout",
    [
        None,
        [],
        {"params": [["params.conv.kernel", [3, 4], "float32"]]},
        {
            "params": [
                ["params.conv.kernel", [3, 4], "float32"],
                ["params.conv.bias", [4], "colour"],
            ]
        },
        {"params": [["params.conv.kernel", [3, 4]]]},
        {
            "elsewhere": [
                ["params.conv.kernel", [3, 4], "float32"],
                ["params.conv.bias", [4], "float32"],
            ]
        },
    ],
)
def test_restore_refuses_a_checkpoint_with_an_invalid_array_layout(tmp_path, monkeypatch, layout):
    """The hashes of the checkpoint are right; only its layout is not."""
    original = checkpoints_module.pack_arrays
    monkeypatch.setattr(checkpoints_module, "pack_arrays", lambda tree: (original(tree)[0], layout))
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"params": state().params})
    checkpoints.close()
    with pytest.raises(
        CheckpointError, match=r"checkpoint 1 in .* (cannot be read|is of another network)"
    ):
        Checkpoints(tmp_path, keep=1).restore(1, abstract({"params": state().params}))


def test_a_restored_state_can_be_donated(saved):
    """Restored arrays start as views of the bytes that were read."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    restored = Checkpoints(saved, keep=2).restore(3, abstract(state()))
    for _ in range(3):
        restored = step(restored)
    chex.assert_trees_all_equal(restored, jax.tree.map(lambda x: x + 3, state(3)))
