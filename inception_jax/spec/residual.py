"""Residual branches that begin at zero, so that every block equals its shortcut at initialisation.

Source: "Accurate, Large Minibatch SGD" (Goyal et al. 2017, arXiv:1706.02677), section 5.1;
torchvision's `zero_init_residual`.
"""

from dataclasses import replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Conv, Residual, flatten, rewrite_words


def zero_last_gammas(architecture: Architecture) -> Architecture:
    """Returns the table with an initial gamma of 0 in the norm that ends each residual branch.

    Raises:
      ValueError: No residual branch of this network ends in a norm with a gamma.
    """
    layers = rewrite_words(architecture.layers, _zero_last_gamma)
    unit = architecture.unit
    if layers == architecture.layers or not (unit.norm and unit.norm_scale):
        raise ValueError(
            f"{architecture.name} ({architecture.variant}) has no residual branch that ends in a "
            "norm with a gamma"
        )
    return replace(architecture, layers=layers)


def _zero_last_gamma(word: Any) -> Any:
    if not isinstance(word, Residual) or word.expansion_conv:
        return word
    *first, last = flatten(word.branch)
    if isinstance(last, Conv) and last.norm is not False:
        last = replace(last, gamma_init=0.0)
    return replace(word, branch=(*first, last))
