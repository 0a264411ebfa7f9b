"""From an encoded image to the pixels that the network sees: the work that stays on the host."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from inception_jax.data.crop import Part
from inception_jax.data.source import DataError

try:
    import cv2
    import simplejpeg

    cv2.setNumThreads(0)  # the parallel work is one image per thread; two threads within each image cost more than they gain
except ImportError:  # Pillow alone reads everything, at about half the speed
    cv2 = simplejpeg = None  # type: ignore[assignment]


MAX_PIXELS = 2**26
"""8192 x 8192: what ImageNet's largest image has twice over, and 200 MB once decoded."""


def decode(image: bytes | np.ndarray, part: Part | None = None) -> np.ndarray:
    """Pixels [H, W, 3] uint8 of an encoded image, whatever its name says, or of pixels that are grey or colour already.

    CMYK and YCCK become RGB, grey is repeated, 16 bits are rounded to 8, transparency is dropped.

    Args:
      part: (height, width) -> the part that is wanted, to which [H, W, 3] is cut. What lies below it is not decoded where
        the format allows that.

    Raises:
      DataError: bytes that are no readable image, that are cut off, an animation, or of more than `MAX_PIXELS` (read
        from the header, before anything is decoded); pixels that are not uint8 of 1 or 3 channels.
    """
    if isinstance(image, np.ndarray):
        return _cut(_colour(image), part)
    try:
        found = None
        if simplejpeg is not None and simplejpeg.is_jpeg(image):
            found = _by_simplejpeg(image, part)
        return _cut(_by_pillow(image), part) if found is None else found
    except DataError:
        raise
    except Exception as error:  # each decoder raises a class of its own
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{len(image)} bytes that begin with {image[:8]!r} are no readable image ({reason})") from error


def _cut(pixels: np.ndarray, part: Part | None) -> np.ndarray:
    if part is None:
        return pixels
    top, left, height, width = part(*pixels.shape[:2])
    return pixels[top : top + height, left : left + width]


def _by_simplejpeg(image: bytes, part: Part | None) -> np.ndarray | None:
    """None where Pillow shall decide: libjpeg-turbo warns, as of stray bytes that some of ImageNet's files have."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(image)
        _checked(height, width)
        if colours in ("CMYK", "YCCK"):  # libjpeg-turbo does not turn those into RGB
            return None
        if part is None:
            return simplejpeg.decode_jpeg(image)
        top, left, tall, wide = part(height, width)
        needed = -(-(top + tall) // 16) * 16 + 16  # whole blocks, and one more since their chroma is smoothed
        shortened = _ending_at(image, needed) if needed < height else None
        # The rest of a shortened image looks like stray bytes; that it is there, its last two say.
        pixels = simplejpeg.decode_jpeg(image) if shortened is None else simplejpeg.decode_jpeg(shortened, strict=False)
        return pixels[top : top + tall, left : left + wide]
    except ValueError:
        return None


def _ending_at(jpeg: bytes, rows: int) -> bytes | None:
    """`jpeg` with a header that gives it so many rows; None for one that is not baseline, or not whole.

    Huffman codes are read from the top down, so rows below the crop cost a fifth of all decoding for nothing.
    """
    at = 2
    while jpeg.endswith(b"\xff\xd9") and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        if jpeg[at + 1] in (0xC0, 0xC1):
            return jpeg[: at + 5] + rows.to_bytes(2, "big") + jpeg[at + 7 :]
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return None


def _by_pillow(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as opened:
        _checked(opened.height, opened.width)
        if (frames := getattr(opened, "n_frames", 1)) > 1:
            raise DataError(f"an animation of {frames} frames ({opened.format}): give one image")
        if opened.mode.startswith("I"):  # 16 bits, which `convert` cuts off at 255
            return _colour(np.rint(np.asarray(opened) / 257).astype(np.uint8))
        return np.asarray(opened.convert("RGB"))


def _checked(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(f"an image of {width}x{height} pixels, more than {MAX_PIXELS:,}: shrink it before training on it")


def _colour(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise DataError(f"an image is {pixels.dtype} {pixels.shape}; wanted are uint8 [H, W], [H, W, 1] or [H, W, 3]")
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1)


def resize(pixels: np.ndarray, into: np.ndarray, rule: str) -> None:
    """Writes `pixels` [H, W, 3] into `into` [h, w, 3], whatever their shape was.

    Args:
      rule: `bilinear` (four neighbours, half-pixel centres: TensorFlow 2's) or `area` (mean when shrinking) as OpenCV
        has them; `antialias` or `bicubic_antialias`, Pillow's filters, widened when shrinking (torchvision's, timm's, and
        TensorFlow 2's with antialias=True); `tf1_bilinear`, TensorFlow 1's, whose grid begins in the corner and which
        Google's checkpoints were scored with. Without OpenCV the first two are Pillow's.
    """
    height, width = into.shape[:2]
    if rule == "tf1_bilinear":
        into[:] = _from_the_corner(pixels, height, width)
        return
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    by_area = rule == "area" and height < pixels.shape[0] and width < pixels.shape[1]
    if cv2 is not None and rule != "bicubic_antialias" and (rule != "antialias" or not shrinks):  # growing, three are the same
        how = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
        if into.flags.c_contiguous:
            cv2.resize(pixels, (width, height), dst=into, interpolation=how)
        else:
            into[:] = cv2.resize(pixels, (width, height), interpolation=how)
        return
    box = Image.Resampling.BOX if by_area else Image.Resampling.BILINEAR
    filters = {"bicubic_antialias": Image.Resampling.BICUBIC, "area": box}
    into[:] = Image.fromarray(pixels).resize((width, height), filters.get(rule, Image.Resampling.BILINEAR))


def _from_the_corner(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Output pixel i reads input coordinate i * length / size, with no half pixel added."""
    values = pixels.astype(np.float32)
    for axis, size in enumerate((height, width)):
        places = np.arange(size, dtype=np.float32) * np.float32(pixels.shape[axis] / size)
        low = places.astype(np.int64)
        share = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, pixels.shape[axis] - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return np.rint(values).astype(np.uint8)
