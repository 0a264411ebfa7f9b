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

Gradient = Callable[..., tuple[tuple[jax.Array, tuple[Sums, Any]], Any]]
"""(state, batch) -> ((loss, (sums, new batch_stats)), gradient by the parameters)."""


def make_seed_key(seed: int) -> jax.Array:
    """Returns the key of a seed from 0 to 2^63 - 1, all of whose bits count, whether JAX has 64-bit integers or not.

    `jax.random.key` alone takes the lower 32 without them: 2^32 would be 0. Below 2^32 the key is that one.
    """
    low, high = seed % 2**32, seed >> 32
    key = jax.random.key(low)
    return jax.random.fold_in(key, high) if high else key


def make_example_keys(seed: int, positions: jax.Array) -> jax.Array:
    """A key [B] for each position in the stream: what is done to an example hangs on (seed, position) alone."""
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
    masked: bool = False,
    dropout_step: jax.Array | None = None,
) -> tuple[tuple[jax.Array, tuple[Sums, Any]], Any]:
    """((loss, (sums, new batch_stats)), gradient by the parameters) of a batch; L2 is in the gradient, and not in the loss.

    Args:
      whole: gathers parameters that are spread over devices.
      masked: whether examples may weigh 0, and are then left out of batch statistics. It costs a pass where they are taken.
      draw: numbers what is dropped out, and is the step where not given.
    """
    dropout_step = state.step if dropout_step is None else dropout_step
    _, dropout = jax.random.split(make_seed_key(seed))
    images, targets = prepare(batch, make_example_keys(seed, batch.position))
    chex.assert_equal_shape_prefix((images, *batch), 1)
    options = {"mask": batch.weight > 0} if masked else {}

    def loss(params):
        variables, rngs = (
            {"params": gather_params(params), "batch_stats": state.batch_stats},
            {"dropout": jax.random.fold_in(dropout, dropout_step)},
        )
        outputs, updated = network.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs=rngs, **options
        )
        value, sums = objective(outputs, targets, batch.weight)
        return value, (sums, updated.get("batch_stats", {}))

    found, slope = jax.value_and_grad(loss, has_aux=True)(state.params)
    return found, add_l2_gradient(slope, state.params, l2)


def accumulate_gradients(
    compute_gradients: Gradient, *, num_microbatches: int, group: int, masked: bool = False
) -> Gradient:
    """`compute_gradients` of a batch that passes in `parts`, one after the other: what that of the whole gives, but for dropout.

    Each part has every `parts`-th group of `group` examples, so that batch normalisation sees the groups that it saw, and no example
    leaves its device.
    """

    def split(x: jax.Array) -> jax.Array:
        """[B, ...] -> [parts, B / parts, ...]."""
        return (
            x.reshape(-1, num_microbatches, group, *x.shape[1:])
            .swapaxes(0, 1)
            .reshape(num_microbatches, -1, *x.shape[1:])
        )

    def whole(state: State, batch: "Batch"):
        count = jnp.maximum(batch.weight.sum(), 1)
        filled = (batch.weight.reshape(-1, group) > 0).any(1).sum()  # groups with statistics

        def one(total, numbered):
            i, part = numbered
            (loss, (sums, stats)), slope = compute_gradients(
                state, part, dropout_step=state.step * num_microbatches + i
            )
            loss, slope = jax.tree.map(
                lambda x: x * (part.weight.sum() / count).astype(x.dtype), (loss, slope)
            )
            own = (part.weight.reshape(-1, group) > 0).any(1).sum()
            share = jnp.where(filled > 0, own / jnp.maximum(filled, 1), 1 / num_microbatches)
            stats = jax.tree.map(
                lambda x: x * share.astype(x.dtype) if masked else x / num_microbatches, stats
            )
            return jax.tree.map(jnp.add, total, ((loss, (sums, stats)), slope)), None

        pieces = jax.tree.map(split, batch)
        like = jax.eval_shape(compute_gradients, state, jax.tree.map(lambda x: x[0], pieces))
        return jax.lax.scan(
            one,
            jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like),
            (jnp.arange(num_microbatches), pieces),
        )[0]

    return whole


def train_step(
    state: State,
    batch: "Batch",
    *,
    optimizer: optax.GradientTransformation,
    compute_gradients: Gradient,
    average_decay: float = 0.0,
    skip_not_finite: bool = True,
) -> tuple[State, Sums]:
    """One update of the parameters. A step whose loss or gradient is not finite is counted, and changes nothing but that if it is to be
    skipped. That moves 5.5 % more bytes (the digits', on a CPU): a run that stops at such a step, and saves nothing after it, goes without.
    """
    (value, (sums, batch_stats)), slope = compute_gradients(state, batch)
    updates, opt_state = optimizer.update(slope, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average and ema_update(
        state.average,
        {"params": params, "batch_stats": batch_stats},
        decay=average_decay,
        step=state.step,
    )
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(slope))
    new = state.replace(
        params=params, batch_stats=batch_stats, opt_state=opt_state, average=average
    )
    if skip_not_finite:  # not by `lax.cond`: on a GPU the host waits for what it hangs on
        new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
    return new.replace(step=state.step + 1, skipped=state.skipped + ~finite), {
        **sums,
        "skipped": ~finite,
    }


def eval_step(
    variables: Mapping[str, Any],
    batch: "Batch",
    *,
    network: nn.Module,
    prepare: Callable[[jax.Array], jax.Array],
    metrics: Mapping[str, Metric] = METRICS,
) -> Sums:
    """Scores a batch; what weighs 0 adds nothing to the sums, which are all that devices exchange."""
    chex.assert_equal_shape_prefix(tuple(batch), 1)
    outputs: Any = network.apply(variables, prepare(batch.image), train=False)
    return sum_metrics(
        outputs.logits,
        batch.label,
        batch.weight,
        cross_entropy(outputs.logits, batch.label),
        metrics,
    )


def log_probability_step(
    variables: Mapping[str, Any],
    images: jax.Array,
    *,
    network: nn.Module,
    prepare: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Log-probabilities [B, K] of the classes of images [B, H, W, 3], where `predict_step` rounds those below 1e-38 to 0."""
    outputs: Any = network.apply(variables, prepare(images), train=False)
    return jax.nn.log_softmax(outputs.logits)


def predict_step(
    variables: Mapping[str, Any],
    images: jax.Array,
    *,
    network: nn.Module,
    prepare: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Class probabilities [B, K] of images [B, H, W, 3]."""
    outputs: Any = network.apply(variables, prepare(images), train=False)
    return jax.nn.softmax(outputs.logits)
