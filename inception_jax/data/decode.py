"""From an encoded image to the pixels that the network sees: the work that stays on the host."""

import io
import re
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from inception_jax.data.crop import Part
from inception_jax.data.source import DataError

try:
    import cv2
    import simplejpeg

    cv2.setNumThreads(
        0
        # The parallel work is one image per thread; two threads within each image cost more than
        # they
        # gain
    )
except ImportError:  # Pillow alone reads everything, at about half the speed
    cv2 = simplejpeg = None  # type: ignore[assignment]


MAX_PIXELS = 2**26
"""Limit of 8192 x 8192 pixels, 200 MB decoded: twice the size of ImageNet's largest image."""
MAX_SCANS = 64
"""Limit for a progressive JPEG; encoders write about ten scans. One of 950 KB with 2,010 scans
takes 19 s to decode.
"""
MAX_SCANNED_PIXELS = 2**30
"""Pixels times scans: sixteen scans of `MAX_PIXELS`."""

APP1, START_OF_SCAN, BASELINE = 0xE1, 0xDA, (0xC0, 0xC1)
"""Kinds of JPEG segments: EXIF, start of a scan, and headers of frames that are not progressive."""
DAMAGED = re.compile("bad Huffman code|premature end", re.IGNORECASE)
"""Warnings of libjpeg-turbo about wrong pixels. Stray bytes before the end are common and harmless.
"""

Orientation = Literal["apply", "ignore"]
"""Whether an image is turned and mirrored as its EXIF orientation says."""
EXIF_ORIENTATION, BITS_PER_SAMPLE = 0x0112, 258
"""Tags."""


def decode(
    image: bytes | np.ndarray, part: Part | None = None, *, orientation: Orientation = "apply"
) -> np.ndarray:
    """Returns the pixels [H, W, 3] uint8 of an encoded image, or of an array of pixels.

    CMYK and YCCK become RGB, grey is repeated, 16 bits (and 12 bits of a TIFF) are scaled to 8, and
    transparency is dropped. The first image of a phone's multi-picture file (MPO) is its
    photograph.

    Args:
      image: The bytes of a file of any supported format, or uint8 pixels of 1 or 3 channels.
      part: (height, width) -> the crop to return. Rows below it are not decoded where the format
        allows it.
      orientation: `apply` turns the image as its EXIF orientation says, `ignore` keeps it as
        stored. Pillow always turns a TIFF.

    Raises:
      DataError: The bytes are no readable image, are cut off, hold an animation, floats or 32-bit
        integers of unknown range, or exceed `MAX_PIXELS` or `MAX_SCANS` (checked in the header); or
        the pixels are not uint8 of 1 or 3 channels.
    """
    if isinstance(image, np.ndarray):
        return _cut(_colour(image), part)
    try:
        found = None
        if simplejpeg is not None and simplejpeg.is_jpeg(image):
            found = _by_simplejpeg(image, part, orientation)
        return _cut(_by_pillow(image, orientation), part) if found is None else found
    except DataError:
        raise
    except Exception as error:  # each decoder raises a class of its own
        reason = _no_format(image) if isinstance(error, UnidentifiedImageError) else error
        raise DataError(
            f"{len(image)} bytes that begin with {image[:8]!r} are no readable image ({reason})"
        ) from error


def has_exif_rotation(image: bytes | np.ndarray) -> bool:
    """Returns whether an encoded image has an EXIF orientation other than upright.

    False if its header cannot be read.
    """
    return not isinstance(image, np.ndarray) and _orientation(image) > 1


def _orientation(image: bytes) -> int:
    """Returns the EXIF orientation, 1 (upright) to 8; 1 where there is none that can be read."""
    if image.startswith(b"\xff\xd8") and not any(
        kind == APP1 for kind, _ in _segments(image)
    ):  # twenty times as fast as Pillow
        return 1
    try:
        with Image.open(io.BytesIO(image)) as opened:
            found = opened.getexif().get(EXIF_ORIENTATION, 1)
        return found if found in range(1, 9) else 1
    # Each decoder raises a class of its own; some of ImageNet's images have damaged EXIF, and whole
    # pixels
    except Exception:
        return 1


def _no_format(image: bytes) -> str:
    if image[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc"):
        return "HEIC, which is not read here: save it as JPEG"
    return "of no known format"


def _cut(pixels: np.ndarray, part: Part | None) -> np.ndarray:
    if part is None:
        return pixels
    top, left, height, width = part(*pixels.shape[:2])
    return pixels[top : top + height, left : left + width]


def _by_simplejpeg(image: bytes, part: Part | None, orientation: Orientation) -> np.ndarray | None:
    """Returns the pixels, or None if Pillow is to decide.

    libjpeg-turbo also warns about stray bytes, which some of ImageNet's files have.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(image)
        check_size(height, width)
        _check_scans(image, height * width)
        if colours in ("CMYK", "YCCK"):  # libjpeg-turbo does not turn those into RGB
            return None
        if orientation == "apply" and _orientation(image) > 1:
            return None
        if part is None:
            return simplejpeg.decode_jpeg(image)
        top, left, tall, wide = part(height, width)
        needed = (
            -(-(top + tall) // 16) * 16 + 16
        )  # whole blocks, and one more since their chroma is smoothed
        shortened = _ending_at(image, needed) if needed < height else None
        # The rest of a shortened image looks like stray bytes; that it is there, its last two say.
        pixels = (
            simplejpeg.decode_jpeg(image)
            if shortened is None
            else simplejpeg.decode_jpeg(shortened, strict=False)
        )
        return pixels[top : top + tall, left : left + wide]
    except DataError:
        raise
    except ValueError as error:
        if DAMAGED.search(str(error)):
            raise DataError(f"a damaged JPEG ({error})") from error
        return None


def _ending_at(jpeg: bytes, rows: int) -> bytes | None:
    """Returns `jpeg` with a header of `rows` rows; None unless it is baseline and complete.

    Huffman codes are decoded from the top, and rows below the crop would cost a fifth of all
    decoding.
    """
    if not jpeg.endswith(b"\xff\xd9"):
        return None
    at = next((place for kind, place in _segments(jpeg) if kind in BASELINE), None)
    return None if at is None else jpeg[: at + 5] + rows.to_bytes(2, "big") + jpeg[at + 7 :]


def _by_pillow(image: bytes, orientation: Orientation) -> np.ndarray:
    is_applied = orientation == "apply" and _orientation(image) > 1
    with Image.open(io.BytesIO(image)) as opened:
        check_size(opened.height, opened.width)
        if opened.format == "PNG":
            with Image.open(io.BytesIO(image)) as again:
                # Checksums, of which not all are compared by decoding; the image is of no more use
                # then
                again.verify()
        if opened.format in ("JPEG", "MPO"):
            _check_scans(image, opened.height * opened.width)
        elif getattr(
            opened, "is_animated", False
        ):  # of which a GIF's is known by its second frame, and not by decoding them all
            frames = (
                getattr(opened, "n_frames", 2) if len(image) < 2**20 else "many"
            )  # a GIF is read to its end to count them
            raise DataError(f"an animation of {frames} frames ({opened.format}): give one image")
        if opened.mode == "F" or (
            opened.mode == "I" and opened.format not in ("PNG", "PPM")
        ):  # Pillow's mode for their 16 bits, too
            kind = "floats" if opened.mode == "F" else "32-bit or signed integers"
            raise DataError(
                f"a {opened.format} of {kind}, of which nothing says what is black and what is "
                "white: save it with 8 or 16 bits a channel"
            )
        if opened.mode.startswith("I"):
            bits = getattr(opened, "tag_v2", {}).get(BITS_PER_SAMPLE)  # of a TIFF
            most = 2**12 - 1 if bits == (12,) else 2**16 - 1
            turned = ImageOps.exif_transpose(opened) if is_applied else opened
            return _colour(np.rint(np.asarray(turned) * np.float32(255 / most)).astype(np.uint8))
        plain = opened.convert("RGB")
        return np.asarray(ImageOps.exif_transpose(plain) if is_applied else plain)


def check_size(height: int, width: int) -> None:
    """Raises an error for an image that is too large, before memory is allocated for it.

    Raises:
      DataError: It has more than `MAX_PIXELS` pixels, or none.
    """
    if height * width > MAX_PIXELS:
        raise DataError(
            f"an image of {width}x{height} pixels, more than {MAX_PIXELS:,}: cut or shrink it first"
        )
    if height < 1 or width < 1:
        raise DataError(f"an image of {width}x{height} pixels: there is nothing to see")


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Yields the kind and the position of each segment of a JPEG up to its first scan."""
    at = 2
    while at + 12 <= len(jpeg) and jpeg[at] == 0xFF:
        yield jpeg[at + 1], at
        if jpeg[at + 1] == START_OF_SCAN:
            return
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")


def _check_scans(jpeg: bytes, pixels: int) -> None:
    places = dict(_segments(jpeg))
    frame, first = (
        next((places[kind] for kind in BASELINE if kind in places), None),
        places.get(START_OF_SCAN),
    )
    if frame is not None and first is not None and jpeg[frame + 9] == jpeg[first + 4]:
        # The first scan has all colours, and is the only one that is decoded; to count them is a
        # tenth of decoding
        return
    scans = jpeg.count(b"\xff\xda")  # within the data of a scan 0xFF is followed by 0
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
        raise DataError(
            f"a JPEG of {scans} scans over {pixels:,} pixels, more than encoders write "
            f"({MAX_SCANS}): save it again"
        )


def _colour(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise DataError(
            f"an image is {pixels.dtype} {pixels.shape}; wanted are uint8 [H, W], [H, W, 1] or [H, "
            "W, 3]"
        )
    check_size(*pixels.shape[:2])
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1)


def resize(pixels: np.ndarray, into: np.ndarray, rule: str) -> None:
    """Writes `pixels` [H, W, 3], resized, into `into` [h, w, 3].

    Args:
      rule: `bilinear` (four neighbours, half-pixel centres: TensorFlow 2) or `area` (mean when
        shrinking) of OpenCV; `antialias` or `bicubic_antialias` of Pillow, whose filters widen when
        shrinking (torchvision, timm, and TensorFlow 2 with antialias=True); `nearest` of Pillow;
        `tf1_bilinear` of TensorFlow 1, whose grid begins in the corner, as Google's checkpoints
        were scored. Without OpenCV the first two are Pillow's.

    Raises:
      DataError: One side is so long that resizing the other first would exceed `MAX_PIXELS`, or a
        library refuses the image.
    """
    height, width = into.shape[:2]
    check_size(pixels.shape[0], width)
    check_size(height, pixels.shape[1])
    try:
        _resize(pixels, into, rule)
    except Exception as error:  # each library raises a class of its own
        raise DataError(
            f"an image of {pixels.shape[1]}x{pixels.shape[0]} pixels cannot be resized to "
            f"{width}x{height} ({error})"
        ) from error


def _resize(pixels: np.ndarray, into: np.ndarray, rule: str) -> None:
    height, width = into.shape[:2]
    if rule == "tf1_bilinear":
        into[:] = _from_the_corner(pixels, height, width)
        return
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    by_area = rule == "area" and height < pixels.shape[0] and width < pixels.shape[1]
    by_opencv = rule in ("bilinear", "area") or (
        rule == "antialias" and not shrinks
    )  # growing, three are the same
    if cv2 is not None and by_opencv:
        how = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
        if into.flags.c_contiguous:
            cv2.resize(pixels, (width, height), dst=into, interpolation=how)
        else:
            into[:] = cv2.resize(pixels, (width, height), interpolation=how)
        return
    box = Image.Resampling.BOX if by_area else Image.Resampling.BILINEAR
    filters = {
        "bicubic_antialias": Image.Resampling.BICUBIC,
        "nearest": Image.Resampling.NEAREST,
        "area": box,
    }
    into[:] = Image.fromarray(pixels).resize(
        (width, height), filters.get(rule, Image.Resampling.BILINEAR)
    )


def _from_the_corner(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the image resized so that output pixel i reads input coordinate i * length / size."""
    values = pixels.astype(np.float32)
    for axis, size in enumerate((height, width)):
        places = np.arange(size, dtype=np.float32) * np.float32(pixels.shape[axis] / size)
        low = places.astype(np.int64)
        share = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, pixels.shape[axis] - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return np.rint(values).astype(np.uint8)
