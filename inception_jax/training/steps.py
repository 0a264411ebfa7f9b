"""The compiled functions of a run: a step of training, of evaluation, of prediction."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from inception_jax.training.objective import (
    METRICS,
    Metric,
    Sums,
    add_l2_gradient,
    cross_entropy,
    sum_metrics,
)
from inception_jax.training.optimizer import ema_update
from inception_jax.training.state import State

if TYPE_CHECKING:
    from inception_jax.data.batches import Batch

ComputeGradients = Callable[..., tuple[tuple[jax.Array, tuple[Sums, Any]], Any]]
"""(state, batch) -> ((loss, (sums, new batch_stats)), gradients of the parameters)."""


def make_seed_key(seed: int) -> jax.Array:
    """Returns the key of a seed from 0 to 2^63 - 1, with and without JAX's 64-bit integers.

    `jax.random.key` alone takes the lower 32 bits without them. Below 2^32 the key is the same.
    """
    low, high = seed % 2**32, seed >> 32
    key = jax.random.key(low)
    return jax.random.fold_in(key, high) if high else key


def make_example_keys(seed: int, positions: jax.Array) -> jax.Array:
    """Returns a key [B] for each position [B] in the stream of examples.

    The augmentation of an example depends on the seed and its position alone.
    """
    examples, _ = jax.random.split(make_seed_key(seed))
    return jax.vmap(lambda position: jax.random.fold_in(examples, position))(positions)


def compute_gradients(
    state: State,
    batch: "Batch",
    *,
    network: nn.Module,
    objective: Callable[..., tuple[jax.Array, Sums]],
    prepare: Callable[["Batch", jax.Array], tuple[jax.Array, jax.Array]],
    seed: int,
    gather_params: Callable[[Any], Any] = lambda params: params,
    l2: float = 0.0,
    is_masked: bool = False,
    dropout_step: jax.Array | None = None,
) -> tuple[tuple[jax.Array, tuple[Sums, Any]], Any]:
    """Returns ((loss, (sums, new batch_stats)), gradients of the parameters) of a batch.

    Args:
      objective: (outputs, targets, weights) -> (loss, sums).
      prepare: (batch, keys [B]) -> (scaled images [B, H, W, C], targets), augmented.
      gather_params: Gathers parameters that are sharded.
      l2: The weight of L2, which is part of the gradients but not of the loss.
      is_masked: Whether examples of weight 0 are left out of batch statistics, which costs a pass
        over the activations.
      dropout_step: The number that the dropout mask depends on; default: the step.
    """
    dropout_step = state.step if dropout_step is None else dropout_step
    _, dropout = jax.random.split(make_seed_key(seed))
    rngs = {"dropout": jax.random.fold_in(dropout, dropout_step)}
    images, targets = prepare(batch, make_example_keys(seed, batch.position))
    chex.assert_equal_shape_prefix((images, *batch), 1)
    options = {"mask": batch.weight > 0} if is_masked else {}

    def compute_loss(params):
        variables = {"params": gather_params(params), "batch_stats": state.batch_stats}
        outputs, updated = network.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs=rngs, **options
        )
        loss, sums = objective(outputs, targets, batch.weight)
        return loss, (sums, updated.get("batch_stats", {}))

    result, grads = jax.value_and_grad(compute_loss, has_aux=True)(state.params)
    return result, add_l2_gradient(grads, state.params, l2)


def accumulate_gradients(
    compute_gradients: ComputeGradients,
    *,
    num_microbatches: int,
    group: int,
    is_masked: bool = False,
) -> ComputeGradients:
    """Returns a function that computes gradients over microbatches, one after the other.

    Its result is that of the whole batch, except for dropout. Microbatch i has every
    `num_microbatches`-th group of `group` examples, so that batch normalisation sees the same
    groups and no example leaves its device.
    """

    def split(x: jax.Array) -> jax.Array:
        """Reshapes [B, ...] to [num_microbatches, B / num_microbatches, ...]."""
        groups = x.reshape(-1, num_microbatches, group, *x.shape[1:])
        return groups.swapaxes(0, 1).reshape(num_microbatches, -1, *x.shape[1:])

    def count_filled_groups(weight: jax.Array) -> jax.Array:
        return (weight.reshape(-1, group) > 0).any(1).sum()

    def compute_accumulated_gradients(state: State, batch: "Batch"):
        num_examples = jnp.maximum(batch.weight.sum(), 1)
        num_filled = count_filled_groups(batch.weight)

        def add_microbatch(total, numbered):
            i, microbatch = numbered
            dropout_step = state.step * num_microbatches + i
            (loss, (sums, stats)), grads = compute_gradients(
                state, microbatch, dropout_step=dropout_step
            )
            share = microbatch.weight.sum() / num_examples
            loss, grads = jax.tree.map(lambda x: x * share.astype(x.dtype), (loss, grads))
            filled = count_filled_groups(microbatch.weight) / jnp.maximum(num_filled, 1)
            stats_share = jnp.where(num_filled > 0, filled, 1 / num_microbatches)
            stats = jax.tree.map(
                lambda x: x * stats_share.astype(x.dtype) if is_masked else x / num_microbatches,
                stats,
            )
            return jax.tree.map(jnp.add, total, ((loss, (sums, stats)), grads)), None

        microbatches = jax.tree.map(split, batch)
        first = jax.tree.map(lambda x: x[0], microbatches)
        shapes = jax.eval_shape(compute_gradients, state, first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        numbered = jnp.arange(num_microbatches), microbatches
        return jax.lax.scan(add_microbatch, zeros, numbered)[0]

    return compute_accumulated_gradients


def train_step(
    state: State,
    batch: "Batch",
    *,
    optimizer: optax.GradientTransformation,
    compute_gradients: ComputeGradients,
    average_decay: float = 0.0,
    skip_not_finite: bool = True,
) -> tuple[State, Sums]:
    """Applies one optimizer update.

    Counts a non-finite step in `skipped`; with `skip_not_finite` such a step leaves the rest of the
    state unchanged.

    Args:
      compute_gradients: (state, batch) -> ((loss, (sums, batch_stats)), gradients).
      average_decay: Decay of the moving averages.

    Note: `skip_not_finite` moves 5.5 % more bytes (the digits network, on a CPU). A run that stops
    at such a step, and saves nothing after it, does not need it.
    """
    (loss, (sums, batch_stats)), grads = compute_gradients(state, batch)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average:
        variables = {"params": params, "batch_stats": batch_stats}
        average = ema_update(average, variables, decay=average_decay, step=state.step)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
    new = state.replace(
        params=params, batch_stats=batch_stats, opt_state=opt_state, average=average
    )
    if skip_not_finite:  # not `lax.cond`: on a GPU the host waits for its predicate
        new = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), new, state)
    new = new.replace(step=state.step + 1, skipped=state.skipped + ~is_finite)
    return new, {**sums, "skipped": ~is_finite}


def eval_step(
    variables: Mapping[str, Any],
    batch: "Batch",
    *,
    network: nn.Module,
    prepare: Callable[[jax.Array], jax.Array],
    metrics: Mapping[str, Metric] = METRICS,
) -> Sums:
    """Returns the sums of metrics over a batch.

    Padding has weight 0 and adds nothing. The sums are all that devices exchange.
    """
    chex.assert_equal_shape_prefix(tuple(batch), 1)
    outputs: Any = network.apply(variables, prepare(batch.image), train=False)
    losses = cross_entropy(outputs.logits, batch.label)
    return sum_metrics(outputs.logits, batch.label, batch.weight, losses, metrics)


def log_probability_step(
    variables: Mapping[str, Any],
    images: jax.Array,
    *,
    network: nn.Module,
    prepare: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Returns log-probabilities [B, K] of the classes of images [B, H, W, 3] uint8.

    `predict_step` rounds probabilities below 1e-38 to 0.
    """
    outputs: Any = network.apply(variables, prepare(images), train=False)
    return jax.nn.log_softmax(outputs.logits)


def predict_step(
    variables: Mapping[str, Any],
    images: jax.Array,
    *,
    network: nn.Module,
    prepare: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Returns class probabilities [B, K] of images [B, H, W, 3] uint8."""
    outputs: Any = network.apply(variables, prepare(images), train=False)
    return jax.nn.softmax(outputs.logits)
