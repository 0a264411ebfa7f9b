"""The examples that a network gets most wrong."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from inception_jax.data.batches import Batch
from inception_jax.training.steps import Scores


def worst_examples(
    step: Callable[[Any, Any], Scores],
    variables: Any,
    batches: Iterator[Batch],
    class_names: Sequence[str],
    *,
    gather: Callable[[Batch], Batch],
    most: int = 24,
) -> dict[str, np.ndarray]:
    """The `most` examples of the largest loss, the largest first. `gather` brings a batch whole to every process.

    Returns:
      `image` [N, H, W, 3] uint8, `label`, `prediction`, `probability` (of the prediction) and `loss` [N], `class_names`,
      and `example`, the first image of all.
    """
    kept: dict[str, np.ndarray] = {}
    example = None
    for batch in batches:
        scores, batch = step(variables, batch), gather(batch)
        image = np.asarray(batch.image)
        example = image[0] if example is None else example
        probabilities, real = np.asarray(scores.probabilities), np.asarray(batch.weight) > 0
        found = {
            "image": image,
            "label": np.asarray(batch.label),
            "prediction": probabilities.argmax(-1),
            "probability": probabilities.max(-1),
            "loss": np.asarray(scores.loss),
        }
        joined = {name: np.concatenate([kept[name], value[real]]) if kept else value[real] for name, value in found.items()}
        largest = np.argsort(-joined["loss"], kind="stable")[:most]
        kept = {name: value[largest] for name, value in joined.items()}
    return {**kept, "class_names": np.array(class_names), "example": np.asarray(example)}
