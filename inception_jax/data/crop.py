"""Crops: the distributions of training crops, and the fixed crops of evaluation."""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


Part = Callable[[int, int], Box]
"""A function: (height, width) of an image -> the crop for the network."""


class UniformDraws:
    """Uniform random numbers that depend on the seed and a position in the stream alone.

    They are raw words of Philox, which NumPy keeps stable across versions. The counter separates
    them from the words that shuffle the stream.
    """

    def __init__(self, seed: int, position: int):
        self._philox = np.random.Philox(key=[seed, position], counter=[0, 0, 0, 1])

    def uniform(self, low: float, high: float) -> float:
        """Returns a float in [low, high)."""
        return low + (high - low) * (self._philox.random_raw() >> 11) * 2.0**-53

    def below(self, limit: int) -> int:
        """Returns an integer in [0, limit)."""
        return min(int(self.uniform(0, limit)), limit - 1)


def sample_area_crop(
    draws: UniformDraws, height: int, width: int, min_area: float, max_aspect: float = 4 / 3
) -> Box:
    """Returns a crop with uniform area, log-uniform aspect and uniform position.

    GoogLeNet's distribution ("evenly distributed between 8 % and 100 %", arXiv:1409.4842, section
    6) in the form of torchvision's RandomResizedCrop: ten tries, then the largest central crop of a
    legal aspect.

    Args:
      min_area: The smallest fraction of the image's area.
      max_aspect: The largest aspect, and the inverse of the smallest.
    """
    for _ in range(10):
        area = height * width * draws.uniform(min_area, 1)
        aspect = exp(draws.uniform(-log(max_aspect), log(max_aspect)))
        w, h = round(sqrt(area * aspect)), round(sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(draws.below(height - h + 1), draws.below(width - w + 1), h, w)
    h, w = min(height, round(width * max_aspect)), min(width, round(height * max_aspect))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def sample_distorted_bbox(
    draws: UniformDraws,
    height: int,
    width: int,
    min_area: float,
    *,
    aspects: tuple[float, float] = (0.75, 1.33),
    covered: float = 0.1,
) -> Box:
    """Returns a crop as TensorFlow's `sample_distorted_bounding_box` draws it for TF-Slim.

    The aspect is uniform, then the height is uniform between those that `min_area` and the image
    allow, so that small areas are likelier than large ones. After a hundred tries it is the whole
    image. The last row and column of positions are never drawn, as in TensorFlow.

    Args:
      aspects: The range of width / height.
      covered: The smallest fraction of the image that a crop holds, also above `min_area`.
    """
    whole = height * width
    for _ in range(100):
        aspect = draws.uniform(*aspects)
        least, most = round(sqrt(min_area * whole / aspect)), round(sqrt(whole / aspect))
        if round(most * aspect) > width:
            most = int((width + 0.5 - 1e-7) / aspect)
        most = min(most, height)
        least = min(least, most)
        h = least + draws.below(most - least + 1)
        w = round(h * aspect)
        if min_area * whole <= h * w <= whole and 0 < w <= width and h * w >= covered * whole:
            return Box(draws.below(max(height - h, 1)), draws.below(max(width - w, 1)), h, w)
    return Box(0, 0, height, width)


def sample_scale_crop(
    draws: UniformDraws,
    height: int,
    width: int,
    min_area: float,
    *,
    sides: tuple[int, int] = (256, 480),
    size: int = 224,
) -> Box:
    """Returns a square crop of `size` pixels of the image resized to a random shorter side.

    Source: "Deep Residual Learning" (arXiv:1512.03385, section 3.4). `min_area` is not used.

    Args:
      sides: The range of the shorter side in pixels.
    """
    shorter = sides[0] + draws.below(sides[1] - sides[0] + 1)
    side = max(1, min(round(min(height, width) * size / shorter), height, width))
    return Box(draws.below(height - side + 1), draws.below(width - side + 1), side, side)


def crop_central(height: int, width: int, fraction: float) -> Box:
    """Returns the central crop with `fraction` of each side, at least one pixel.

    Of the area it keeps fraction^2. TF-Slim's evaluation uses 0.875.
    """
    top, left = int(height * (1 - fraction) / 2), int(width * (1 - fraction) / 2)
    return Box(top, left, max(1, height - 2 * top), max(1, width - 2 * left))


def crop_square(height: int, width: int, fraction: float) -> Box:
    """Returns the central square with `fraction` of the shorter side, at least one pixel.

    It equals resizing the shorter side and cropping the centre.
    """
    side = max(1, round(min(height, width) * fraction))
    return Box((height - side) // 2, (width - side) // 2, side, side)


TRAINING: dict[str, Callable[..., Box]] = {
    "area": sample_area_crop,
    "height": sample_distorted_bbox,
    "scale": sample_scale_crop,
}
EVALUATION: dict[str, Callable[..., Box]] = {"central": crop_central, "square": crop_square}
