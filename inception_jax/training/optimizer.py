"""The optimizer and its schedule, made of Optax's own parts."""

import fnmatch
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inception_jax.config import ConfigError


def make_schedule(
    name: Literal["constant", "exponential", "piecewise", "polynomial", "cosine"],
    learning_rate: float,
    *,
    steps: int,
    decay_steps: float = 1.0,
    decay_rate: float = 1.0,
    staircase: bool = True,
    floor: float = 0.0,
    boundaries: Sequence[float] = (),
    power: float = 1.0,
    warmup_steps: float = 0.0,
) -> optax.Schedule:
    """Step -> learning rate, after `warmup_steps` of a linear rise. `polynomial` and `cosine` end at `steps`.

    Steps count from the beginning of the run for `piecewise`, whose papers drop the rate at given epochs of it, and from
    the end of the warm-up for the others. Numbers of steps may be fractions, as epochs are of them: what is due between two steps
    is done at the later one.

    Args:
      floor: the fraction of the rate that `exponential` does not fall below.
      boundaries: steps at which `piecewise` multiplies by `decay_rate`; two of them at one step multiply twice.
    """
    left = max(steps - warmup_steps, 1)
    if name == "constant":
        decay = optax.constant_schedule(learning_rate)
    elif name == "exponential":
        end = floor * learning_rate or None
        if staircase and left / decay_steps < MOST_DROPS:
            by_drops = optax.exponential_decay(learning_rate, 1, decay_rate, end_value=end)
            falls = round_up_steps(
                warmup_steps + decay_steps * np.arange(1, int(left / decay_steps) + 2)
            )
            decay = lambda step: by_drops((falls <= jnp.asarray(step)[..., None]).sum(-1))  # noqa: E731
        else:
            by_steps = optax.exponential_decay(
                learning_rate, decay_steps, decay_rate, staircase=staircase, end_value=end
            )
            decay = lambda step: by_steps(step - warmup_steps)  # noqa: E731
    elif name == "piecewise":
        falling = {
            step: decay_rate**count
            for step, count in Counter(round_up_steps(boundaries).tolist()).items()
        }
        decay = optax.piecewise_constant_schedule(learning_rate, falling)
    elif name == "polynomial":
        decay = lambda step: optax.polynomial_schedule(learning_rate, 0.0, power, left)(
            step - warmup_steps
        )  # noqa: E731
    else:
        decay = lambda step: optax.cosine_decay_schedule(learning_rate, left)(step - warmup_steps)  # noqa: E731
    if not warmup_steps:
        return decay
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return lambda step: jnp.where(step < warmup_steps, rise(step), decay(step))


MOST_DROPS = 100_000
"""Of a staircase, up to which each has its step in a table: in float32 a quotient of two steps is an integer too early or too late."""


def round_up_steps(steps: Any) -> np.ndarray:
    """Returns the first whole step at or after each of `steps`, but for a rounding of 1e-9 of it."""
    steps = np.asarray(steps, np.float64)
    return np.ceil(steps - 1e-9 * np.maximum(np.abs(steps), 1)).astype(np.int32)


def make_optimizer(
    name: Literal["rmsprop", "momentum"],
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    decay: float = 0.9,
    epsilon: float = 1.0,
    clip_norm: float | None = None,
    freeze: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Clipping, then the rule. L2 comes before both: as in TensorFlow it is part of the loss, and already in the gradient.

    What `freeze` names stays as it is, and has no part in the norm that is clipped; ConfigError where a pattern names nothing.

    `rmsprop` is TensorFlow 1's: the mean square starts at 1, epsilon is added inside the square root, the learning rate
    inside the momentum. (Optax's defaults differ in the first; PyTorch's rule in all three.)
    """
    if name == "rmsprop":
        rule = optax.rmsprop(
            learning_rate,
            decay=decay,
            eps=epsilon,
            initial_scale=1.0,
            eps_in_sqrt=True,
            momentum=momentum,
            nesterov=nesterov,
        )
    else:
        rule = optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov)
    before = []
    if freeze:
        before.append(
            optax.masked(optax.set_to_zero(), lambda params: mask_by_path(params, freeze))
        )
    if clip_norm is not None:
        before.append(optax.clip_by_global_norm(clip_norm))
    return optax.chain(*before, rule)


def mask_by_path(params: Any, patterns: Sequence[str]) -> Any:
    """A tree of booleans: which of `params` have a path (`Mixed_5b/branch_0/conv_1x1/kernel`) that one of `patterns` fits.

    A pattern is `fnmatch`'s; one that ends at a place (`Mixed_5b`) fits all that lies below it.

    Raises:
      ConfigError: a pattern that fits nothing.
    """
    paths = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )
    fits = lambda path, pattern: (
        fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")
    )  # noqa: E731
    for pattern in patterns:
        if not any(fits(path, pattern) for path in jax.tree.leaves(paths)):
            raise ConfigError(
                f"optimizer.freeze: no parameter is called {pattern!r}; there are {', '.join(params)}"
            )
    return jax.tree.map(lambda path: any(fits(path, pattern) for pattern in patterns), paths)


def ema_update(average: Any, new: Any, *, decay: float, step: jax.Array) -> Any:
    """Moving average as TensorFlow keeps it: step n moves with decay min(decay, (1 + n) / (10 + n))."""
    ramped = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(new, average, 1.0 - ramped)
