"""What a network makes of images before it names them."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax

from inception_jax.config import ConfigError
from inception_jax.experiment import Run
from inception_jax.nn.network import Outputs


def features_step(run: Run, end_point: str | None = None) -> Callable[[Mapping[str, Any], Any], jax.Array]:
    """(variables, images [B, H, W, 3] uint8) -> the activations at `end_point` [B, ...], or what the classifier reads; compiled.

    Raises:
      ConfigError: an end point that the network has not.
    """
    if end_point is None:
        network = run.network.clone(num_classes=0)
        return run.placement.compile(
            lambda variables, images: cast(Outputs, network.apply(variables, run.prepare_evaluation(images))).logits
        )
    places = [name for name, _ in run.network.architecture.layers]
    if end_point not in places:
        raise ConfigError(f"{run.config.model.name} has no end point {end_point!r}; it has {', '.join(places)}")

    def step(variables: Mapping[str, Any], images: Any) -> jax.Array:
        outputs = cast(Outputs, run.network.apply(variables, run.prepare_evaluation(images), end_points=(end_point,), stop=True))
        return outputs.end_points[end_point]

    return run.placement.compile(step)
