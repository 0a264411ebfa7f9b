"""The two steps by themselves: traced once, unharmed by numbers gone wrong."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inception_jax.data.augment import scale_pixels
from inception_jax.data.batches import Batch
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.evaluation.population import without_dropout
from inception_jax.experiment import Run
from inception_jax.nn.network import Network
from inception_jax.nn.norm import BatchNorm
from inception_jax.recipes import load_recipe
from inception_jax.spec.vocabulary import Dropout, concat, same
from inception_jax.training.objective import classification_loss
from inception_jax.training.state import make_initial_state
from inception_jax.training.steps import (
    accumulate_gradients,
    compute_gradients,
    eval_step,
    make_seed_key,
    train_step,
)
from tests.spec.probes import probe

TABLE = probe(
    "tiny", Stem=same(8, 3), Mixed=concat(same(8, 1), (same(8, 1), same(8, 3))), Drop=Dropout(0.3)
)
NETWORK = Network(TABLE, num_classes=10, norm=partial(BatchNorm, examples_per_group=4))
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
LEARNING = partial(
    compute_gradients,
    network=NETWORK,
    objective=classification_loss,
    prepare=lambda batch, keys: (scale_pixels(batch.image), batch.label),
    seed=0,
)
STEP = partial(train_step, optimizer=OPTIMIZER, compute_gradients=LEARNING)


def batch(size=16, seed=0):
    rng = np.random.default_rng(seed)
    return Batch(
        jnp.asarray(rng.integers(0, 256, (size, 8, 8, 3)), jnp.uint8),
        jnp.asarray(rng.integers(0, 10, size), jnp.int32),
        jnp.ones(size),
        jnp.arange(size, dtype=jnp.uint32),
    )


@pytest.fixture(scope="module")
def start():
    return make_initial_state(
        jax.random.key(0),
        network=NETWORK,
        optimizer=OPTIMIZER,
        image_shape=(8, 8, 3),
        is_averaged=True,
    )


@pytest.mark.slow
def test_steps_are_traced_once(start):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def train(state, batch):
        return STEP(state, batch, average_decay=0.9)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def evaluate(variables, batch):
        return eval_step(variables, batch, network=NETWORK, prepare=scale_pixels)

    state = start
    for seed in range(3):
        state, _ = train(state, batch(seed=seed))
        evaluate(state.variables, batch(seed=seed))
    assert int(state.step) == 3


@pytest.mark.slow
def test_sixty_training_steps_halve_the_loss_on_one_batch(start):
    step, state, losses = jax.jit(STEP), start.replace(average={}), []
    for _ in range(60):
        state, sums = step(state, batch())
        losses.append(float(sums["loss"] / sums["count"]))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_the_moving_average_follows_parameters_and_statistics(start):
    step = jax.jit(partial(STEP, average_decay=0.9))
    after, _ = step(start, batch())
    ramped = (1 + 0) / (10 + 0)
    for kind, new in (("params", after.params), ("batch_stats", after.batch_stats)):
        wanted = jax.tree.map(
            lambda old, new: ramped * old + (1 - ramped) * new, start.average[kind], new
        )
        chex.assert_trees_all_close(after.average[kind], wanted, rtol=1e-5, atol=1e-7)
    assert after.variables is after.average


@pytest.mark.slow
def test_l2_is_in_the_gradient_of_the_kernels_and_not_in_the_loss(start):
    (loss, _), grads = jax.jit(LEARNING)(start, batch())
    (with_it, _), more = jax.jit(partial(LEARNING, l2=0.5))(start, batch())
    assert with_it == loss
    wanted = jax.tree_util.tree_map_with_path(
        lambda path, leaf, of: of + 0.5 * leaf if path[-1].key == "kernel" else of,
        start.params,
        grads,
    )
    chex.assert_trees_all_close(more, wanted, rtol=1e-5, atol=1e-6)


def test_a_run_passes_the_l2_of_its_recipe_to_the_gradient():
    run = Run(load_recipe("digits").config, all_devices_placement())
    assert run.compute_gradients.keywords["l2"] == run.config.optimizer.l2 == 5e-4


@pytest.mark.slow
def test_a_non_finite_step_changes_nothing_and_is_counted(start):
    def infinite(outputs, labels, weights):
        loss, sums = classification_loss(outputs, labels, weights)
        return loss * jnp.inf, sums

    after, sums = jax.jit(
        partial(STEP, compute_gradients=partial(LEARNING, objective=infinite), average_decay=0.9)
    )(start, batch())
    assert (int(after.step), int(after.skipped), bool(sums["skipped"])) == (1, 1, True)
    chex.assert_trees_all_equal(after.replace(step=start.step, skipped=start.skipped), start)


@pytest.mark.slow
def test_dropout_and_augmentation_depend_on_seed_step_and_position(start):
    step = jax.jit(STEP)
    again, later = step(start, batch())[1], step(start.replace(step=start.step + 1), batch())[1]
    assert float(step(start, batch())[1]["loss"]) == float(again["loss"]) != float(later["loss"])
    keys = []
    watched = partial(
        LEARNING,
        prepare=lambda batch, given: (keys.append(given), (scale_pixels(batch.image), batch.label))[
            1
        ],
    )
    jax.eval_shape(partial(STEP, compute_gradients=watched), start, batch())
    assert keys[0].shape == (16,)


@pytest.mark.slow
def test_microbatches_of_a_batch_of_64_give_the_same_updates_as_the_whole_batch(x64):
    """Three steps of groups of 16, with examples that weigh nothing, L2 and a moving average:
    1e-12 where rounding alone differs.
    """
    network = without_dropout(NETWORK).clone(
        dtype=jnp.float64, norm=partial(BatchNorm, examples_per_group=16)
    )
    whole = partial(LEARNING, network=network, l2=0.01)
    start = make_initial_state(
        jax.random.key(0),
        network=network,
        optimizer=OPTIMIZER,
        image_shape=(8, 8, 3),
        is_averaged=True,
    )
    images = jax.random.randint(jax.random.key(1), (64, 8, 8, 3), 0, 256).astype(jnp.uint8)
    weights = jnp.where(jnp.arange(64) % 7 == 3, 0.0, 1.0)
    given = Batch(images, jnp.arange(64) % 10, weights, jnp.arange(64, dtype=jnp.uint32))
    found = []
    for learning in (
        whole,
        accumulate_gradients(whole, num_microbatches=4, group=16),
        accumulate_gradients(whole, num_microbatches=2, group=16),
    ):
        state, step = start, jax.jit(partial(STEP, compute_gradients=learning, average_decay=0.9))
        for _ in range(3):
            state, sums = step(state, given)
        found.append(
            {
                "loss": sums["loss"],
                "top1": sums["top1"],
                **state.params,
                **state.batch_stats,
                "average": state.average,
            }
        )
    chex.assert_trees_all_close(found[0], found[1], rtol=0, atol=1e-12)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), found[0], found[2])
    assert max(jax.tree.leaves(apart)) < 1e-12  # two groups in a part are two groups


def test_padding_adds_nothing_to_the_evaluation_sums(start):
    full = batch()
    weights = jnp.asarray([1.0] * 11 + [0.0] * 5)
    step = jax.jit(partial(eval_step, network=NETWORK, prepare=scale_pixels))
    some = step(start.variables, full._replace(weight=weights))
    first = step(start.variables, jax.tree.map(lambda x: x[:11], full))
    for name in first:
        assert float(some[name]) == pytest.approx(float(first[name]), rel=1e-5), name


def test_seeds_below_2_to_the_32_keep_the_keys_of_jax_and_all_bits_of_larger_ones_count():
    for seed in (0, 1, 2**31, 2**32 - 1):
        np.testing.assert_array_equal(
            jax.random.key_data(make_seed_key(seed)), jax.random.key_data(jax.random.key(seed))
        )
    seeds = (0, 1, 2**32, 2**32 + 1, 2**33, 2**62, 2**63 - 1)
    assert len({tuple(jax.random.key_data(make_seed_key(seed)).tolist()) for seed in seeds}) == len(
        seeds
    )
    narrow = [jax.random.key_data(make_seed_key(seed)) for seed in seeds]
    with jax.enable_x64(True):
        np.testing.assert_array_equal(
            [jax.random.key_data(make_seed_key(seed)) for seed in seeds], narrow
        )


@pytest.mark.slow
@pytest.mark.parametrize("group", [0, 4])
def test_an_example_of_weight_0_changes_neither_gradients_nor_statistics(x64, group):
    """A batch of 16 of which three could not be read, and are black, against batches of groups
    without them.
    """
    table = probe("wide", Stem=same(8, 3), Mixed=concat(same(8, 1), (same(8, 1), same(8, 3))))
    network = Network(
        table, num_classes=10, dtype=jnp.float64, norm=partial(BatchNorm, examples_per_group=group)
    )
    learning = partial(
        compute_gradients,
        network=network,
        objective=classification_loss,
        seed=0,
        prepare=lambda batch, keys: (batch.image / 128.0 - 1.0, batch.label),
    )
    state = make_initial_state(
        jax.random.key(0),
        network=network,
        optimizer=OPTIMIZER,
        image_shape=(8, 8, 3),
        is_averaged=False,
    )
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)
    whole = batch()
    seen = np.ones(16, bool)
    seen[[1, 6, 7]] = False
    images = jnp.where(jnp.asarray(seen)[:, None, None, None], whole.image, 0)
    black = whole._replace(
        image=images, weight=jnp.asarray(seen, jnp.float64), label=whole.label * seen
    )
    (loss, (sums, stats)), grads = learning(state, black, is_masked=True)
    size = group or 16
    parts = [
        jax.tree.map(lambda x, i=i: x[i : i + size][seen[i : i + size]], whole)
        for i in range(0, 16, size)
    ]
    alone = [
        partial(learning, network=network.clone(norm=partial(BatchNorm)))(state, part)
        for part in parts
    ]
    shares = [len(part.label) / seen.sum() for part in parts]
    assert float(sums["count"]) == 13
    assert float(loss) == pytest.approx(
        sum(share * float(one[0][0]) for share, one in zip(shares, alone, strict=True)), rel=1e-12
    )
    wanted = jax.tree.map(
        lambda *leaves: sum(share * leaf for share, leaf in zip(shares, leaves, strict=True)),
        *(one[1] for one in alone),
    )
    chex.assert_trees_all_close(grads, wanted, atol=1e-12)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *(one[0][1][1] for one in alone))
    chex.assert_trees_all_close(stats, mean, atol=1e-12)
    if group:
        pieces = accumulate_gradients(
            partial(learning, is_masked=True), num_microbatches=2, group=group, is_masked=True
        )(state, black)
        chex.assert_trees_all_close(pieces[0][1][1], stats, atol=1e-12)
        chex.assert_trees_all_close(pieces[1], grads, atol=1e-12)
