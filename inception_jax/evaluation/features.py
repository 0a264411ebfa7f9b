"""Features: activations of a network before its classifier."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax

from inception_jax.config import ConfigError
from inception_jax.experiment import Run
from inception_jax.nn.network import Outputs


def make_features_step(
    run: Run, end_point: str | None = None
) -> Callable[[Mapping[str, Any], Any], jax.Array]:
    """Returns a compiled function: (variables, images [B, H, W, 3] uint8) -> activations [B, ...].

    Args:
      end_point: Name of the activations; None for the pooled features.

    Raises:
      ConfigError: The network has no such end point.
    """
    places = [name for name, _ in run.network.architecture.layers]
    if end_point is not None and end_point not in places:
        raise ConfigError(
            f"{run.config.model.name} has no end point {end_point!r}; it has {', '.join(places)}"
        )
    network = run.network if end_point else run.network.clone(num_classes=0)
    options: dict[str, Any] = {"end_points": (end_point,), "stop": True} if end_point else {}

    def step(variables: Mapping[str, Any], images: Any) -> jax.Array:
        outputs = cast(Outputs, network.apply(variables, run.prepare_evaluation(images), **options))
        return cast(jax.Array, outputs.end_points[end_point] if end_point else outputs.logits)

    return run.placement.compile(step)
