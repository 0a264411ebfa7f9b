"""A fixed image, and samples of a network's activations on it, which identify the network."""

from collections.abc import Mapping

import numpy as np

NamedTensors = dict[str, np.ndarray]
"""Tensors by name: `logits`, `aux 0`, ..., and end points; channels last."""
SAMPLES = 64


def make_test_images(size: int, channels: int = 3) -> np.ndarray:
    """Returns [1, size, size, channels] float64 in [-1, 1], the same on every machine (Philox)."""
    return np.random.Generator(np.random.Philox(key=size)).uniform(-1, 1, (1, size, size, channels))


def sample_values(tensor: np.ndarray) -> np.ndarray:
    """Returns [65] float64: 64 values at positions that depend on the size, and the largest one."""
    places = np.random.Generator(np.random.Philox(key=tensor.size)).integers(
        0, tensor.size, SAMPLES
    )
    return np.append(tensor.reshape(-1)[places], np.abs(tensor).max()).astype(np.float64)


def compute_errors(
    found: Mapping[str, np.ndarray], samples: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Returns max|a - b| / max|b| for each of `samples`, which are from `sample_values`."""
    return {
        name: float(
            np.abs(sample_values(found[name])[:SAMPLES] - wanted[:SAMPLES]).max()
            / max(wanted[SAMPLES], np.finfo(np.float32).tiny)
        )
        for name, wanted in samples.items()
    }
