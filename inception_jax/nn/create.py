"""A network by its name, with what a recipe changes about it."""

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
    """The network registered under `name`, as a Flax module.

    Args:
      variant: a form of it (`paper`, `cadene`, ...); the registry's first where not given.
      num_classes: of the classifier, whatever the variant: 1000, or 10 for the networks of CIFAR and MNIST, where not
        given; 0 for pooled features.
      aux: with auxiliary heads while training.
      width_multiplier: times the filters of the table.
      dropout_rate: instead of the table's.
      zero_init_residual: begin with every residual block at its shortcut (`spec.residual`).
      local_response_norm: False leaves it out of the table.
      init_scale: times the deviation of the initial kernels of convolutions.
      per_activation_in: end points whose norms keep statistics for each position too.
      recompute: end points, by patterns (`Mixed_5*`), whose inside a backward pass computes again instead of keeping it.
      rewrites: names of `spec.rewrite.RULES` by which the table is run, `best(architecture, platform)` for those that win there. The
        function, the parameters and their names stay.
      precision: of the product that gives the logits, where it is one of float32; None for the platform's default.
      norm: fields of `BatchNorm`: `examples_per_group`, `decay`, ...; they go before what the variant says.

    Raises:
      TypeError: a keyword that there is not.
      UnknownModelError: no such name or variant.
      ValueError: something to change that this network has not.
      RewriteError: a rewrite that this network has no place for.
    """
    for keyword in norm.keys() - NORM_FIELDS:
        raise TypeError(f"create() has no keyword {keyword!r}{_hint(keyword)}")
    table = widen(get_architecture(name, variant), width_multiplier)
    table = zero_last_gammas(table) if zero_init_residual else table
    table = table if local_response_norm else remove_local_response(table)
    table = table if init_scale == 1 else scale_initial_kernels(table, init_scale)
    table = table if dropout_rate is None else replace(table, dropout_rate=dropout_rate)
    if unknown := set(per_activation_in) - {place for place, _ in table.layers}:
        raise ValueError(
            f"per_activation_in names {', '.join(sorted(unknown))}, which {name} has not; see inception-jax models {name}"
        )
    for pattern in recompute:
        if not fnmatch.filter([place for place, _ in table.layers], pattern):
            raise ValueError(
                f"recompute names {pattern!r}, which fits no end point of {name}; see inception-jax models {name}"
            )
    num_classes = table.num_classes if num_classes is None else num_classes
    validate_rewrites(table, rewrites)
    return Network(
        table, num_classes=num_classes, dtype=dtype, norm=partial(BatchNorm, **norm), aux=aux, per_activation_in=per_activation_in,
        recompute=recompute, rewrites=rewrites, precision=precision,
    )  # fmt: skip


def _hint(keyword: str) -> str:
    """Returns what may have been meant."""
    if keyword in ("pretrained", "weights"):
        return ": it makes a network without weights; inception_jax.load(FILE) gives those of a file that `inception-jax convert` wrote"
    known = {*inspect.signature(create).parameters, *NORM_FIELDS} - {"norm"}
    near = difflib.get_close_matches(keyword, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
