"""The views of one image that a multi-crop evaluation averages over."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from inception_jax.data.crop import Box
from inception_jax.data.decode import Orientation, check_size, decode, resize
from inception_jax.data.source import Example


class View(NamedTuple):
    """A crop of the image resized to the shorter side `side`, mirrored or not.

    A box of another size than the network's is resized to it.
    """

    side: int
    box: Box
    mirrored: bool


def compute_resized_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """Returns (height, width) with the shorter side at `side` and the longer one rounded."""
    if height <= width:
        return side, round(width * side / height)
    return round(height * side / width), side


def _squares(height: int, width: int) -> Iterator[Box]:
    """Returns three squares of an image.

    They are left, middle and right of a landscape, top, middle and bottom of a portrait.
    """
    side, spare = min(height, width), abs(height - width)
    for offset in (0, spare // 2, spare):
        yield Box(offset, 0, side, side) if height > width else Box(0, offset, side, side)


def _five(box: Box, size: int) -> Iterator[Box]:
    """Returns the four corners of `box` and its centre."""
    down, right = box.height - size, box.width - size
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        yield Box(box.top + top, box.left + left, size, size)


def _both(side: int, boxes: Iterable[Box]) -> list[View]:
    return [View(side, box, is_mirrored) for box in boxes for is_mirrored in (False, True)]


def make_ten_views(height: int, width: int, size: int, fraction: float = 0.875) -> list[View]:
    """Returns the four corners and the centre of the image, and their mirror images.

    They are AlexNet's, in the form of torchvision's TenCrop.
    """
    side = round(size / fraction)
    return _both(side, _five(Box(0, 0, *compute_resized_shape(height, width, side)), size))


def make_six_views(height: int, width: int, size: int) -> list[View]:
    """Returns three squares of the whole image at the network's size, and their mirror images.

    Over several sizes this is the fully convolutional test of the ResNets (arXiv:1512.03385,
    section 3.4: shorter side 224, 256, 384, 480, 640). The paper runs the network over the whole
    image; the squares cover it and give all images one shape.
    """
    return _both(size, _squares(*compute_resized_shape(height, width, size)))


def make_twelve_views(height: int, width: int, size: int, fraction: float = 0.875) -> list[View]:
    """Returns six views of the central square, and their mirror images.

    arXiv:1512.00567 and arXiv:1602.07261 print results for 12 crops without naming them; this
    choice agrees with GoogLeNet's 144.
    """
    side = round(size / fraction)
    square = list(_squares(*compute_resized_shape(height, width, side)))[1]
    return _both(side, [*_five(square, size), square])


def make_144_views(height: int, width: int, size: int) -> list[View]:
    """Returns GoogLeNet's 144 views: four scales, three squares, six views, and mirror images.

    Source: arXiv:1409.4842, section 7. The scales are 256, 288, 320 and 352 for 224 pixels, and
    proportional for other sizes (299: 342, 384, 427, 470), which no paper states.
    """
    sides = [round(base * size / 224) for base in (256, 288, 320, 352)]
    squares = [
        (side, square)
        for side in sides
        for square in _squares(*compute_resized_shape(height, width, side))
    ]
    return [
        view for side, square in squares for view in _both(side, [*_five(square, size), square])
    ]


VIEWS: dict[int, Callable[[int, int, int], list[View]]] = {
    6: make_six_views,
    10: make_ten_views,
    12: make_twelve_views,
    144: make_144_views,
}
"""Number of views -> (height, width, size) -> views."""


class Viewer:
    """A function that writes view `position % views` of an example, for `batches.fill_batch`.

    An image is decoded once for all its consecutive views, and resized once for each scale.
    """

    def __init__(self, views: int, size: int, rule: str, orientation: Orientation = "apply"):
        self._views, self._size, self._rule, self._orientation = views, size, rule, orientation
        self._enumerated = lru_cache(maxsize=64)(VIEWS[views])
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, example: Example, position: int, into: np.ndarray) -> None:
        number, which = divmod(position, self._views)
        image = self._once(
            (number, 0), lambda: decode(example.image, orientation=self._orientation)
        )
        tall, wide, _ = image.shape
        side, (top, left, height, width), mirrored = self._enumerated(tall, wide, self._size)[which]
        scaled = self._once(
            (number, side), lambda: self._resized(image, *compute_resized_shape(tall, wide, side))
        )
        cut = scaled[top : top + height, left : left + width]
        cut = np.ascontiguousarray(cut[:, ::-1] if mirrored else cut)
        if cut.shape == into.shape:
            into[:] = cut
        else:
            resize(cut, into, self._rule)

    def _resized(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        check_size(height, width)  # before memory is taken: 60,000 x 4 pixels become 1.8 billion
        into = np.empty((height, width, 3), np.uint8)
        resize(image, into, self._rule)
        return into

    def _once(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = make()  # two threads may both make it; neither waits
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > 64:
                    self._kept.popitem(last=False)
        return found
