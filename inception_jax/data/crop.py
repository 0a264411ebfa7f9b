"""Which part of an image the network sees: the laws that training crops are drawn from, and the crops of evaluation."""

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
"""(height, width) of an image -> the part that the network sees."""


class UniformDraws:
    """Uniform numbers that hang on (seed, position in the stream) alone, whatever host or thread asks for them.

    Raw words of Philox, which NumPy guarantees for ever; the counter keeps them apart from those that order the stream.
    """

    def __init__(self, seed: int, position: int):
        self._philox = np.random.Philox(key=[seed, position], counter=[0, 0, 0, 1])

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * (self._philox.random_raw() >> 11) * 2.0**-53

    def below(self, limit: int) -> int:
        """One of 0, ..., limit - 1."""
        return min(int(self.uniform(0, limit)), limit - 1)


def sample_area_crop(
    draws: UniformDraws, height: int, width: int, min_area: float, max_aspect: float = 4 / 3
) -> Box:
    """Area uniform in `min_area` to 1 of the image, aspect log-uniform, place uniform.

    GoogLeNet's law ("evenly distributed between 8 % and 100 %", arXiv:1409.4842, section 6), as torchvision's
    RandomResizedCrop has it: ten tries, then the largest central part of a legal aspect.
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
    """What TensorFlow's `sample_distorted_bounding_box` draws for a box of the whole image, as TF-Slim calls it.

    Aspect uniform, then the height uniform between those that `min_area` and the image allow: small areas are more
    likely than large ones. A crop must hold `covered` of the image, so areas from 0.1 on, whatever `min_area` says. A
    hundred tries, then the whole image. The last row and column of places are never drawn: so in TensorFlow.
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
    """A square of `size` pixels out of the image whose shorter side is resized to a length drawn from `sides`.

    "Deep Residual Learning" (arXiv:1512.03385, section 3.4). `min_area` has no part in it.
    """
    shorter = sides[0] + draws.below(sides[1] - sides[0] + 1)
    side = max(1, min(round(min(height, width) * size / shorter), height, width))
    return Box(draws.below(height - side + 1), draws.below(width - side + 1), side, side)


def crop_central(height: int, width: int, fraction: float) -> Box:
    """`fraction` of each side about the centre, and a pixel at least: of the area it is the square. TF-Slim's evaluation takes 0.875."""
    top, left = int(height * (1 - fraction) / 2), int(width * (1 - fraction) / 2)
    return Box(top, left, max(1, height - 2 * top), max(1, width - 2 * left))


def crop_square(height: int, width: int, fraction: float) -> Box:
    """The central square of `fraction` of the shorter side, of a pixel at least: what is left of resizing the shorter side and cropping."""
    side = max(1, round(min(height, width) * fraction))
    return Box((height - side) // 2, (width - side) // 2, side, side)


TRAINING: dict[str, Callable[..., Box]] = {
    "area": sample_area_crop,
    "height": sample_distorted_bbox,
    "scale": sample_scale_crop,
}
EVALUATION: dict[str, Callable[..., Box]] = {"central": crop_central, "square": crop_square}
