"""Residual branches that begin at zero, so that every block is its shortcut when training starts.

"Accurate, Large Minibatch SGD" (Goyal et al. 2017, arXiv:1706.02677), section 5.1; torchvision's `zero_init_residual`.
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Conv, Residual, Steps, flatten


def zero_last_gamma(architecture: Architecture) -> Architecture:
    """The same table, with gamma at 0 in the norm that ends each residual branch.

    Raises:
      ValueError: no residual branch of this network ends in a norm with a gamma.
    """
    layers = _zeroed(architecture.layers)
    if layers == architecture.layers or not (architecture.unit.norm and architecture.unit.norm_scale):
        raise ValueError(f"{architecture.name} ({architecture.variant}) has no residual branch that ends in a norm with a gamma")
    return replace(architecture, layers=layers)


def _zeroed(part: Any) -> Any:
    if isinstance(part, tuple):
        return tuple(_zeroed(item) for item in part)
    if isinstance(part, Residual) and not part.up:
        return replace(part, branch=_last(part.branch))
    if is_dataclass(part):
        return replace(part, **{field.name: _zeroed(getattr(part, field.name)) for field in fields(part)})  # type: ignore[type-var]
    return part


def _last(branch: Steps) -> Steps:
    *first, last = flatten(branch)
    if isinstance(last, Conv) and last.norm is not False:
        last = replace(last, gamma_init=0.0)
    return (*first, last)
