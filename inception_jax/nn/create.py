"""Networks by name, with the changes that a recipe makes to a table."""

import difflib
import fnmatch
import inspect
from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.models import get_architecture
from inception_jax.nn.network import Network
from inception_jax.nn.norm import BatchNorm
from inception_jax.spec.residual import zero_last_gammas
from inception_jax.spec.rewrite import validate_rewrites
from inception_jax.spec.variation import remove_local_response, scale_initial_kernels
from inception_jax.spec.width import widen

NORM_FIELDS = {item.name for item in fields(BatchNorm)} - {"parent", "name"}


def create(
    name: str,
    *,
    variant: str | None = None,
    num_classes: int | None = None,
    aux: bool = False,
    width_multiplier: float = 1.0,
    dropout_rate: float | None = None,
    zero_init_residual: bool = False,
    local_response_norm: bool = True,
    init_scale: float = 1.0,
    per_activation_in: tuple[str, ...] = (),
    recompute: tuple[str, ...] = (),
    rewrites: tuple[str, ...] = (),
    dtype: Any = jnp.float32,
    precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST,
    **norm: Any,
) -> Network:
    """Returns the network registered under `name`, as a Flax module.

    Args:
      name: A registered name or alias; see `list_models`.
      variant: A form of the network (`paper`, `cadene`, ...); default: the registry's first.
      num_classes: Number of classes of the classifier in every variant, 0 for pooled features;
        default: 1000, or 10 for the networks of CIFAR and MNIST.
      aux: Whether training runs the auxiliary heads.
      width_multiplier: Factor of the numbers of filters.
      dropout_rate: Dropout rate before the classifier; default: the table's.
      zero_init_residual: Whether every residual block begins as its shortcut (`spec.residual`).
      local_response_norm: Whether to keep the table's local response normalisation.
      init_scale: Factor of the deviation of the convolutions' initial kernels.
      per_activation_in: End points whose norms keep statistics for each position.
      recompute: Patterns (`Mixed_5*`) of end points whose activations the backward pass computes
        again.
      rewrites: Names of `spec.rewrite` by which the table runs, as `select_rewrites(architecture,
        platform)` returns them. The function, the parameters and their names stay the same.
      dtype: Dtype of the activations.
      precision: Precision of the product that gives float32 logits; None for the platform's
        default.
      norm: Fields of `BatchNorm` (`examples_per_group`, `decay`, ...), which override the
        variant's.

    Raises:
      TypeError: There is no such keyword.
      UnknownModelError: There is no such name or variant.
      ValueError: The network lacks something that is to be changed.
      RewriteError: A rewrite does not apply to this network.
    """
    for keyword in norm.keys() - NORM_FIELDS:
        raise TypeError(f"create() has no keyword {keyword!r}{_format_hint(keyword)}")
    table = widen(get_architecture(name, variant), width_multiplier)
    table = zero_last_gammas(table) if zero_init_residual else table
    table = table if local_response_norm else remove_local_response(table)
    table = table if init_scale == 1 else scale_initial_kernels(table, init_scale)
    table = table if dropout_rate is None else replace(table, dropout_rate=dropout_rate)
    if unknown := set(per_activation_in) - {place for place, _ in table.layers}:
        raise ValueError(
            f"per_activation_in names {', '.join(sorted(unknown))}, which {name} has not; see "
            f"inception-jax models {name}"
        )
    for pattern in recompute:
        if not fnmatch.filter([place for place, _ in table.layers], pattern):
            raise ValueError(
                f"recompute names {pattern!r}, which fits no end point of {name}; see "
                f"inception-jax models {name}"
            )
    num_classes = table.num_classes if num_classes is None else num_classes
    validate_rewrites(table, rewrites)
    return Network(
        table, num_classes=num_classes, dtype=dtype, norm=partial(BatchNorm, **norm), aux=aux,
        per_activation_in=per_activation_in, recompute=recompute, rewrites=rewrites,
        precision=precision,
    )  # fmt: skip


def _format_hint(keyword: str) -> str:
    """Returns a hint for the message about an unknown keyword."""
    if keyword in ("pretrained", "weights"):
        return (
            ": it makes a network without weights; inception_jax.from_pretrained(ID) returns a "
            "network and its weights, and `inception-jax weights list` names the ids"
        )
    known = {*inspect.signature(create).parameters, *NORM_FIELDS} - {"norm"}
    near = difflib.get_close_matches(keyword, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
