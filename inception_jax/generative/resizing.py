"""The rules by which images become 299 x 299 pixels, in float32, on a device or on a host.

The rule is part of a score: the FID of 32 images against themselves under two rules is 37 to 123.
Images are never rounded to bytes after they are resized.
"""

from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Rule = Literal["tf1", "half_pixel", "antialias", "bicubic"]
"""`tf1`: bilinear of TensorFlow 1, source = i * in / out, as the graph of 2015-12-05 does itself.
`half_pixel`: bilinear with half-pixel centres, without antialiasing (torch's `interpolate`).
`antialias`: the same with a triangle that widens when shrinking. `bicubic`: Pillow's, which widens
too, clipped to 0..255.
"""


class Neighbours(NamedTuple):
    """The two input pixels of each output pixel, and the weight of the second.

    Attributes:
      low: [out] int32.
      high: [out] int32.
      share: [out] float32.
    """

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray


@lru_cache(maxsize=256)
def find_neighbours(rule: Rule, size: int, target: int) -> Neighbours:
    """Returns the neighbours of `tf1` or `half_pixel`, from positions in float32 as theirs are."""
    scale, half = np.float32(size / target), np.float32(0.5)
    places = np.arange(target, dtype=np.float32)
    is_cornered = rule == "tf1"
    places = places * scale if is_cornered else np.maximum((places + half) * scale - half, 0)
    low = places.astype(np.int32)
    share = places - low.astype(np.float32)
    return Neighbours(np.minimum(low, size - 1), np.minimum(low + 1, size - 1), share)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Returns Keys' cubic with a = -0.5, as Pillow has it."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


@lru_cache(maxsize=256)
def make_matrix(rule: Rule, size: int, target: int) -> np.ndarray:
    """Returns the weights [target, size] float32 of each input pixel in each output pixel.

    Args:
      rule: `antialias` or `bicubic`.
      size: Input pixels.
      target: Output pixels.
    """
    # torch's antialiasing works in float32 (2e-4 of 0..255 from exact weights), Pillow in float64.
    real: Any = np.float32 if rule == "antialias" else np.float64
    scale = real(size / target)
    centres = scale * (np.arange(target, dtype=real) + real(0.5))
    function = _cubic if rule == "bicubic" else _triangle
    distances = np.arange(size, dtype=real) - centres[:, None] + real(0.5)
    weights = function(distances * (1 / np.maximum(scale, real(1))))
    weights /= weights.sum(1, keepdims=True)
    return weights.astype(np.float32)


def resize(images: Any, rule: Rule, target: int, library: Any = jnp) -> Any:
    """Returns images [B, H, W, C] of 0..255 as float32 [B, target, target, C].

    Args:
      images: uint8, or floats.
      rule: See `Rule`.
      target: Output pixels of each side.
      library: `jax.numpy` within a compiled step, or `numpy`. TensorFlow 1's rule gives the same
        bits with both on a CPU, and the others 5e-5.
    """
    height, width = images.shape[1:3]
    values = images.astype(np.float32)
    if rule in ("tf1", "half_pixel"):
        rows, columns = (find_neighbours(rule, size, target) for size in (height, width))
        return _interpolate(values, rows, columns)
    options = {"precision": jax.lax.Precision.HIGHEST} if library is jnp else {"optimize": True}
    multiply = partial(library.einsum, **options)
    values = multiply("oh,bhwc->bowc", make_matrix(rule, height, target), values)
    values = multiply("ow,bhwc->bhoc", make_matrix(rule, width, target), values)
    return values.clip(0, 255) if rule == "bicubic" else values


def _interpolate(values: Any, rows: Neighbours, columns: Neighbours) -> Any:
    """Returns `values` between their neighbours, along x first: y first differs by 3e-5."""
    share = columns.share[:, None]
    left, right = values[:, :, columns.low], values[:, :, columns.high]
    values = left + round_product((right - left) * share)
    share = rows.share[:, None, None]
    top, bottom = values[:, rows.low], values[:, rows.high]
    return top + round_product((bottom - top) * share)


def round_product(product: Any) -> Any:
    """Returns a product that is rounded to float32 before it is added to another number.

    Note: XLA fuses both into one operation, which rounds once: 1.5e-5 off TensorFlow's. A clamp
    that changes no pixel keeps them apart, where a barrier does not.
    """
    return product if isinstance(product, np.ndarray) else jax.lax.clamp(-512.0, product, 512.0)
