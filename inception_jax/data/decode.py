"""From an encoded image to the pixels that the network sees: the work that stays on the host."""

import io

import numpy as np
from PIL import Image

from inception_jax.data.sources import DataError

try:
    import cv2
    import simplejpeg
except ImportError:  # Pillow alone reads everything, at about half the speed
    cv2 = simplejpeg = None  # type: ignore[assignment]


def decode(image: bytes | np.ndarray) -> np.ndarray:
    """Pixels [H, W, 3] uint8 of an encoded image, or of pixels that are grey or colour already.

    Raises:
      DataError: bytes that are no readable image, or pixels that are not uint8 of 1 or 3 channels.
    """
    if isinstance(image, np.ndarray):
        return _colour(image)
    try:
        if simplejpeg is not None and simplejpeg.is_jpeg(image):
            return simplejpeg.decode_jpeg(image)
        return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    except Exception as error:  # each decoder raises a class of its own
        raise DataError(f"{len(image)} bytes that begin with {image[:8]!r} are no readable image ({error})") from error


def _colour(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise DataError(f"an image is {pixels.dtype} {pixels.shape}; wanted are uint8 [H, W], [H, W, 1] or [H, W, 3]")
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1)


def resize(pixels: np.ndarray, size: int, rule: str) -> np.ndarray:
    """Pixels [size, size, 3], whatever their shape was.

    Args:
      rule: `bilinear` (four neighbours, half-pixel centres) or `area` (mean when shrinking) as OpenCV has them, or
        `antialias`, Pillow's bilinear filter widened when shrinking. Without OpenCV the first two are Pillow's.
    """
    if cv2 is not None and rule != "antialias":
        how = cv2.INTER_AREA if rule == "area" and size < min(pixels.shape[:2]) else cv2.INTER_LINEAR
        return cv2.resize(pixels, (size, size), interpolation=how)
    how = Image.Resampling.BOX if rule == "area" and size < min(pixels.shape[:2]) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((size, size), how))
