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
    """The `most` examples of the largest loss, the largest first.

    Args:
      pixels: example -> [H, W, 3] uint8, what the network sees of it.

    Returns:
      `image` [M, H, W, 3] uint8, `label`, `prediction`, `probability` (of the prediction) and `loss` [M]; `class_names`; `count_confusions`
      [K, K], examples of the row's class taken for the column's; and `example`, the first image of all.
    """
    seen = np.flatnonzero(found.seen)
    losses = found.losses[seen]
    worst = seen[np.argsort(-losses, kind="stable")[:most]]
    of = found.probabilities[worst]
    return {
        "image": np.stack([pixels(int(i)) for i in worst]), "label": found.labels[worst], "prediction": of.argmax(-1),
        "probability": of.max(-1), "loss": np.sort(losses)[::-1][:most], "class_names": np.array(class_names),
        "confusion": count_confusions(found), "example": pixels(int(seen[0])),
    }  # fmt: skip
