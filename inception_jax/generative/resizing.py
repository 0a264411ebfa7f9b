"""The rules by which images become 299 x 299 pixels, in float32, on a device or on a host.

The rule is part of a score: the FID of 32 images against themselves under two rules is 37 to 123.
Images are never rounded to bytes after they are resized.
"""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

ResizeRule = Literal["tf1", "half_pixel", "antialias", "bicubic"]
"""`tf1`: bilinear of TensorFlow 1, source = i * in / out, as the graph of 2015-12-05 does itself.
`half_pixel`: bilinear with half-pixel centres, without antialiasing (torch's `interpolate`).
`antialias`: the same with a triangle that widens when shrinking. `bicubic`: Pillow's, which widens
too, clipped to 0..255.
"""


class PixelPairs(NamedTuple):
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
def find_pixel_pairs(rule: ResizeRule, size: int, target: int) -> PixelPairs:
    """Returns the neighbours of `tf1` or `half_pixel`, from positions in float32 as theirs are."""
    scale, half = np.float32(size / target), np.float32(0.5)
    places = np.arange(target, dtype=np.float32)
    is_cornered = rule == "tf1"
    places = places * scale if is_cornered else np.maximum((places + half) * scale - half, 0)
    low = places.astype(np.int32)
    share = places - low.astype(np.float32)
    return PixelPairs(np.minimum(low, size - 1), np.minimum(low + 1, size - 1), share)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Returns Keys' cubic with a = -0.5, as Pillow has it."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


class Taps(NamedTuple):
    """The input pixels of each output pixel, and their weights.

    Attributes:
      places: [out, T] int32.
      weights: [out, T] float32, 0 where an output pixel has fewer.
    """

    places: np.ndarray
    weights: np.ndarray


@lru_cache(maxsize=256)
def make_taps(rule: ResizeRule, size: int, target: int) -> Taps:
    """Returns the weights of input pixels by `antialias` or `bicubic`, which add up to 1.

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
    is_used = weights != 0
    count = int((size - is_used[:, ::-1].argmax(1) - is_used.argmax(1)).max())
    first = np.minimum(is_used.argmax(1), size - count)
    places = (first[:, None] + np.arange(count)).astype(np.int32)
    return Taps(places, np.take_along_axis(weights, places, axis=1).astype(np.float32))


def resize_images(images: Any, rule: ResizeRule, target: int) -> Any:
    """Returns images [B, H, W, C] of 0..255 as float32 [B, target, target, C].

    Args:
      images: uint8, or floats: of JAX within a compiled step, or of NumPy on a host. TensorFlow 1's
        rule gives the same bits for both on a CPU, the others 5e-5.
      rule: See `ResizeRule`.
      target: Output pixels of each side.
    """
    height, width = images.shape[1:3]
    values = images.astype(np.float32)
    if rule in ("tf1", "half_pixel"):
        rows, columns = (find_pixel_pairs(rule, size, target) for size in (height, width))
        return _interpolate(values, rows, columns)
    # Along x first, as torch and Pillow do: what is rounded between is then the same.
    for axis, size in ((2, width), (1, height)):
        values = _add_taps(values, make_taps(rule, size, target), axis)
    return values.clip(0, 255) if rule == "bicubic" else values


def _add_taps(values: Any, taps: Taps, axis: int) -> Any:
    """Returns the weighted sums of neighbours along an axis, in the order of their places.

    Note: Products with a matrix of weights add up in another order (6e-5 of 0..255 from torch's
    pixels instead of 4.6e-5), and take two to three times as long on a CPU.
    """
    shape = (-1, 1, 1) if axis == 1 else (-1, 1)
    total = None
    for places, weights in zip(taps.places.T, taps.weights.T, strict=True):
        added = values.take(places, axis=axis) * weights.reshape(shape)
        total = added if total is None else total + added
    return total


def _interpolate(values: Any, rows: PixelPairs, columns: PixelPairs) -> Any:
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
