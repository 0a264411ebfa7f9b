"""The optimizer and its schedule, from Optax's own parts."""

import fnmatch
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inception_jax.config import ConfigError

MAX_TABLE_DROPS = 100_000
"""The largest number of drops of a staircase whose steps are kept in a table. The quotient of two
steps in float32 can reach an integer one step too early or too late."""


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
    """Returns a schedule, step -> learning rate, with a linear warm-up.

    Steps count from the start of the run for `piecewise`, as in the papers that use it, and from
    the end of the warm-up for the others. Numbers of steps may be fractions; a drop between two
    steps happens at the later one.

    Args:
      steps: The last step of the run, where `polynomial` and `cosine` reach 0.
      decay_steps: Steps in which `exponential` multiplies the rate by `decay_rate`.
      staircase: Whether `exponential` decays at once at the end of each `decay_steps`.
      floor: The fraction of the rate below which `exponential` does not fall.
      boundaries: Steps at which `piecewise` multiplies by `decay_rate`; two at one step multiply
        twice.
      power: The exponent of `polynomial`.
      warmup_steps: Steps of the warm-up.
    """
    remaining = max(steps - warmup_steps, 1)
    if name == "constant":
        decay = optax.constant_schedule(learning_rate)
    elif name == "piecewise":
        counts = Counter(round_up_steps(boundaries).tolist())
        factors = {step: decay_rate**count for step, count in counts.items()}
        decay = optax.piecewise_constant_schedule(learning_rate, factors)
    elif name == "exponential":
        end = floor * learning_rate or None
        if staircase and remaining / decay_steps < MAX_TABLE_DROPS:
            drops = warmup_steps + decay_steps * np.arange(1, int(remaining / decay_steps) + 2)
            decay = _make_staircase(learning_rate, round_up_steps(drops), decay_rate, end)
        else:
            after_warmup = optax.exponential_decay(
                learning_rate, decay_steps, decay_rate, staircase=staircase, end_value=end
            )
            decay = _delay(after_warmup, warmup_steps)
    elif name == "polynomial":
        after_warmup = optax.polynomial_schedule(learning_rate, 0.0, power, remaining)
        decay = _delay(after_warmup, warmup_steps)
    else:
        decay = _delay(optax.cosine_decay_schedule(learning_rate, remaining), warmup_steps)
    if not warmup_steps:
        return decay
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return lambda step: jnp.where(step < warmup_steps, rise(step), decay(step))


def _make_staircase(
    learning_rate: float, drops: np.ndarray, decay_rate: float, end: float | None
) -> optax.Schedule:
    """Returns a schedule that multiplies the rate by `decay_rate` at each of `drops`."""
    by_number = optax.exponential_decay(learning_rate, 1, decay_rate, end_value=end)
    return lambda step: by_number((drops <= jnp.asarray(step)[..., None]).sum(-1))


def _delay(schedule: optax.Schedule, steps: float) -> optax.Schedule:
    return lambda step: schedule(step - steps)


def round_up_steps(steps: Any) -> np.ndarray:
    """Returns the first whole step at or after each of `steps`, within a rounding of 1e-9."""
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
    """Returns an optimizer: freezing, clipping by the global norm, then the update rule.

    The gradients include L2 already, as in TensorFlow, where it is part of the loss. `rmsprop` is
    TensorFlow 1's: the mean square starts at 1, epsilon is inside the square root, the learning
    rate inside the momentum. (Optax's defaults differ in the first, PyTorch's rule in all three.)

    Args:
      decay: Decay of the mean square of `rmsprop`.
      epsilon: Number added to the mean square.
      clip_norm: The largest global norm; frozen parameters do not count.
      freeze: Patterns of the paths of parameters that stay unchanged.

    Raises:
      ConfigError: A pattern of `freeze` fits no parameter (at `init`).
    """
    if name == "rmsprop":
        rule = optax.rmsprop(
            learning_rate, decay=decay, eps=epsilon, initial_scale=1.0, eps_in_sqrt=True,
            momentum=momentum, nesterov=nesterov,
        )  # fmt: skip
    else:
        rule = optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov)
    transformations = []
    if freeze:
        zero = optax.masked(optax.set_to_zero(), lambda params: mask_by_path(params, freeze))
        transformations.append(zero)
    if clip_norm is not None:
        transformations.append(optax.clip_by_global_norm(clip_norm))
    return optax.chain(*transformations, rule)


def mask_by_path(params: Any, patterns: Sequence[str]) -> Any:
    """Returns a tree of booleans: True for the parameters whose path a pattern fits.

    Args:
      params: Parameters, with paths such as `Mixed_5b/branch_0/conv_1x1/kernel`.
      patterns: `fnmatch` patterns; one that ends at a module (`Mixed_5b`) fits all below it.

    Raises:
      ConfigError: A pattern fits nothing.
    """
    paths = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )

    def fits(path: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")

    for pattern in patterns:
        if not any(fits(path, pattern) for path in jax.tree.leaves(paths)):
            known = ", ".join(params)
            raise ConfigError(
                f"optimizer.freeze: no parameter is called {pattern!r}; there are {known}"
            )
    return jax.tree.map(lambda path: any(fits(path, pattern) for pattern in patterns), paths)


def ema_update(average: Any, new: Any, *, decay: float, step: jax.Array) -> Any:
    """Returns the moving average after `step`, as TensorFlow computes it.

    Step n uses the decay min(decay, (1 + n) / (10 + n)).
    """
    ramped = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(new, average, 1.0 - ramped)
