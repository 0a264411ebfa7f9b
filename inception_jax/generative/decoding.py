"""Encoded images as RGB, by Pillow's rules, which all programs that read files of images follow.

Unlike the images of a classifier, none is turned by its EXIF orientation, and none of 16 bits is
scaled: a score is of the pixels that the other programs see. What was converted is counted.
"""

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from inception_jax.data.decode import check_size, has_exif_rotation
from inception_jax.data.source import DataError

CONVERSIONS = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey, transparency dropped",
    "La": "grey, transparency dropped",
    "P": "palette",
    "PA": "palette",
    "RGBA": "transparency dropped",
    "RGBa": "transparency dropped",
    "RGBX": "RGB with padding",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "Lab",
    "HSV": "HSV",
    "I": "32 or 16 bits, values above 255 cut off",
    "I;16": "16 bits, values above 255 cut off",
    "I;16B": "16 bits, values above 255 cut off",
    "I;16L": "16 bits, values above 255 cut off",
    "F": "floats, values above 255 cut off",
}
"""Pillow's mode of an image -> how it became RGB, for messages."""


class Decoded(NamedTuple):
    """The pixels of an image.

    Attributes:
      pixels: [H, W, 3] uint8.
      conversions: What was converted or left out, in words; none for a plain RGB image.
    """

    pixels: np.ndarray
    conversions: tuple[str, ...]


def decode_rgb(image: bytes | np.ndarray) -> Decoded:
    """Returns an encoded image, or an array of pixels, as RGB.

    Args:
      image: The bytes of a file of any format that Pillow reads, or uint8 [H, W], [H, W, 1] or
        [H, W, 3].

    Raises:
      DataError: It cannot be read, is too large (checked in the header), or has another number of
        channels.
    """
    if isinstance(image, np.ndarray):
        return _decode_array(image)
    found = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about transparency that is dropped
            with Image.open(io.BytesIO(image)) as opened:
                check_size(opened.height, opened.width)
                if getattr(opened, "is_animated", False) and opened.format != "MPO":
                    found.append("animation, the first image taken")
                if opened.mode != "RGB":
                    found.append(CONVERSIONS.get(opened.mode, f"mode {opened.mode}"))
                pixels = np.asarray(opened.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # each decoder raises a class of its own
        raise DataError(
            f"{len(image):,} bytes that begin with {image[:8]!r} are no readable image ({error})"
        ) from error
    if has_exif_rotation(image):
        found.append("EXIF orientation, not applied")
    return Decoded(pixels, tuple(found))


def _decode_array(pixels: np.ndarray) -> Decoded:
    is_grey = pixels.ndim == 2 or pixels.shape[2:] == (1,)
    if pixels.dtype != np.uint8 or not (is_grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise DataError(
            f"an image is {pixels.dtype} {list(pixels.shape)}: wanted are uint8 [H, W, 3], or "
            "[H, W] for grey; channels come last"
        )
    check_size(*pixels.shape[:2])
    if is_grey:
        return Decoded(np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2), ("grey",))
    return Decoded(pixels, ())
