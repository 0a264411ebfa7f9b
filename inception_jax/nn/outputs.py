"""What a network gives back."""

from typing import NamedTuple

import jax


class Outputs(NamedTuple):
    """What a network gives back.

    Attributes:
      logits: [B, num_classes], at least float32; the pooled [B, C] where num_classes is 0.
      aux: the auxiliary heads' logits, in the table's order; empty unless training with `aux=True`.
      end_points: the activations asked for, by name.
    """

    logits: jax.Array | None
    aux: tuple[jax.Array, ...]
    end_points: dict[str, jax.Array]
