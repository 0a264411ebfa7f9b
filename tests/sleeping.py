"""A layer that takes a known time while training: `layer("tests.sleeping:Sleep", ...)`."""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp

SECONDS = 0.4
moments: list[float] = []
"""When each step slept."""


def sleep(_: object) -> None:
    moments.append(time.monotonic())
    time.sleep(SECONDS)


class Sleep(nn.Module):
    """Passes its input on, and keeps the program of a training step for `SECONDS`."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if train and not self.is_initializing():
            jax.debug.callback(sleep, jnp.zeros(()))
        return x
