"""The family, as tables. `REGISTRY` is a plain dict; a user's package adds its own with `register`."""

import difflib
import warnings
from collections.abc import Callable, Mapping

from inception_jax.models import bn_inception
from inception_jax.spec.vocabulary import Architecture

REGISTRY: dict[str, Mapping[str, Callable[[], Architecture]]] = {
    "bn_inception": {"paper": bn_inception.paper, "cadene": bn_inception.cadene},
    "bn_inception_small": {"paper": bn_inception.small},
}
"""Name -> variant -> table; the first variant is the default."""

ALIASES = {"inception_v2": "bn_inception"}
"""What people also call them. Two networks are called Inception-v2; this one is TF-Slim's (arXiv:1502.03167)."""


class UnknownModelError(ValueError):
    """No model, or no variant of it, has this name; the message offers the nearest."""


def register(name: str, **variants: Callable[[], Architecture]) -> None:
    """Adds a network to the registry: `register("my_net", paper=my_table)`.

    Raises:
      ValueError: the name is taken.
    """
    if name in REGISTRY or name in ALIASES:
        raise ValueError(f"a model named {name!r} exists already; choose another name")
    REGISTRY[name] = variants


def architecture(name: str, variant: str | None = None) -> Architecture:
    """The table of a registered network; `variant=None` is its default.

    Raises:
      UnknownModelError: no such name or variant.
    """
    if name in ALIASES:
        warnings.warn(f"{name!r} names two networks in the literature; this is {ALIASES[name]!r}", stacklevel=2)
        name = ALIASES[name]
    if name not in REGISTRY:
        raise UnknownModelError(f"no model is called {name!r}{_nearest(name, [*REGISTRY, *ALIASES])}")
    variants = REGISTRY[name]
    variant = variant or next(iter(variants))
    if variant not in variants:
        raise UnknownModelError(f"{name} has no variant {variant!r}{_nearest(variant, list(variants))}")
    return variants[variant]()


def list_models() -> list[str]:
    """The registered names, then the aliases people use for them."""
    return [*REGISTRY, *ALIASES]


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
