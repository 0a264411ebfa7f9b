"""A fixed image, and a few of the values that a network makes of it: enough to know it by."""

from collections.abc import Mapping

import numpy as np

NamedTensors = dict[str, np.ndarray]
"""`logits`, `aux 0`, ..., and end points of ours by their names; channels last."""
SAMPLES = 64


def make_test_images(size: int, channels: int = 3) -> np.ndarray:
    """[1, size, size, channels] float64 in [-1, 1]: the same one everywhere (Philox)."""
    return np.random.Generator(np.random.Philox(key=size)).uniform(-1, 1, (1, size, size, channels))


def sample_values(tensor: np.ndarray) -> np.ndarray:
    """[65] float64: 64 values at places drawn for a tensor of this size, and the largest of all."""
    places = np.random.Generator(np.random.Philox(key=tensor.size)).integers(
        0, tensor.size, SAMPLES
    )
    return np.append(tensor.reshape(-1)[places], np.abs(tensor).max()).astype(np.float64)


def compute_errors(
    found: Mapping[str, np.ndarray], samples: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """max|a - b| / max|b| for each of `samples`, as `sample_values` takes them of what was wanted."""
    return {
        name: float(
            np.abs(sample_values(found[name])[:SAMPLES] - wanted[:SAMPLES]).max()
            / max(wanted[SAMPLES], np.finfo(np.float32).tiny)
        )
        for name, wanted in samples.items()
    }
