"""The examples that a network gets most wrong, and how it does on each class."""

from collections.abc import Callable, Sequence

import numpy as np

from inception_jax.evaluation.predictions import Predictions, count_confusions


def find_worst_examples(
    found: Predictions,
    pixels: Callable[[int], np.ndarray],
    class_names: Sequence[str],
    *,
    most: int = 24,
) -> dict[str, np.ndarray]:
    """Returns the `most` examples with the largest loss, the largest first.

    Args:
      pixels: Example -> [H, W, 3] uint8, the network's input.

    Returns:
      `image` [M, H, W, 3] uint8, `label`, `prediction`, `probability` (of the prediction) and
        `loss` [M]; `class_names`; `confusion` [K, K], examples of the row's class predicted as the
        column's; and `example`, the first image of all.
    """
    seen = np.flatnonzero(found.seen)
    losses = found.losses[seen]
    worst = seen[np.argsort(-losses, kind="stable")[:most]]
    of = found.probabilities[worst]
    return {
        "image": np.stack([pixels(int(i)) for i in worst]), "label": found.labels[worst],
        "prediction": of.argmax(-1), "probability": of.max(-1),
        "loss": np.sort(losses)[::-1][:most], "class_names": np.array(class_names),
        "confusion": count_confusions(found), "example": pixels(int(seen[0])),
    }  # fmt: skip
