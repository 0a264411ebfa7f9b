"""The Inception family in JAX. The names below import their modules on first use."""

import importlib

__version__ = "0.2.0"

_HOMES = {
    "get_architecture": "inception_jax.models",
    "create": "inception_jax.nn.create",
    "Outputs": "inception_jax.nn.network",
    "evaluate": "inception_jax.evaluation.evaluate",
    "from_pretrained": "inception_jax.weights.pretrained",
    "list_models": "inception_jax.models",
    "load": "inception_jax.weights.pretrained",
    "measure": "inception_jax.spec.measure",
    "Predictor": "inception_jax.weights.predictor",
}

__all__ = [
    "Outputs",
    "Predictor",
    "create",
    "evaluate",
    "from_pretrained",
    "get_architecture",
    "list_models",
    "load",
    "measure",
]


def __getattr__(name: str):
    if name == "weights":
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(
        f"module 'inception_jax' has no attribute {name!r}; it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return [*globals(), *__all__, "weights"]
