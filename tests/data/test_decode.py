import io

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import decode as module
from inception_jax.data.decode import decode, resize
from inception_jax.data.sources import DataError

RNG = np.random.default_rng(0)
PHOTO = np.asarray(Image.fromarray(RNG.integers(0, 256, (24, 32, 3), np.uint8)).resize((160, 120), Image.Resampling.BICUBIC))


def encoded(kind, pixels=PHOTO, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_lossless_images_are_exact():
    np.testing.assert_array_equal(decode(encoded("PNG")), PHOTO)
    grey = PHOTO[..., 0]
    np.testing.assert_array_equal(decode(encoded("PNG", grey)), np.repeat(grey[..., None], 3, -1))
    np.testing.assert_array_equal(decode(grey), np.repeat(grey[..., None], 3, -1))


def test_jpeg_is_pillows_to_a_grey_level():
    data = encoded("JPEG", quality=92)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int32)
    assert np.abs(decode(data) - reference).mean() < 1


@pytest.mark.parametrize("rule", ["area", "antialias"])
def test_shrinking_agrees_with_pillows_antialiased_filter(rule):
    reference = np.asarray(Image.fromarray(PHOTO).resize((60, 60), Image.Resampling.BILINEAR), np.int32)
    assert np.abs(resize(PHOTO, 60, rule) - reference).mean() < (4 if rule == "area" else 1e-9)


def test_growing_is_the_same_under_every_rule():
    small = PHOTO[:8, :8]
    reference = np.asarray(Image.fromarray(small).resize((32, 32), Image.Resampling.BILINEAR), np.int32)
    for rule in ("bilinear", "area", "antialias"):
        assert np.abs(resize(small, 32, rule) - reference).max() <= 1


def test_without_opencv_pillow_does_it(monkeypatch):
    monkeypatch.setattr(module, "cv2", None)
    monkeypatch.setattr(module, "simplejpeg", None)
    assert resize(decode(encoded("JPEG")), 32, "bilinear").shape == (32, 32, 3)


@pytest.mark.parametrize("data", [b"", b"not an image", encoded("JPEG")[:200], encoded("PNG")[:100]])
def test_unreadable_bytes_say_what_they_are(data):
    with pytest.raises(DataError, match=f"{len(data)} bytes that begin with"):
        decode(data)


def test_pixels_of_another_kind_are_refused():
    with pytest.raises(DataError, match="float64"):
        decode(np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match=r"\(4, 4, 2\)"):
        decode(np.zeros((4, 4, 2), np.uint8))
