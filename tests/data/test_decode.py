import io

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import decode as module
from inception_jax.data.decode import decode, resize
from inception_jax.data.source import DataError

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


def test_tensorflow_1s_grid_begins_in_the_corner():
    """Output pixel (i, j) lies at (i * height / size, j * width / size) of the input; written out for each."""
    small = PHOTO[:37, :50]
    ours = resize(small, 29, "tf1_bilinear")
    for i in range(29):
        for j in range(29):
            y, x = i * 37 / 29, j * 50 / 29
            top, left = int(y), int(x)
            bottom, right = min(top + 1, 36), min(left + 1, 49)
            p = small.astype(float)
            above = p[top, left] * (1 - x + left) + p[top, right] * (x - left)
            below = p[bottom, left] * (1 - x + left) + p[bottom, right] * (x - left)
            assert np.abs(ours[i, j] - (above * (1 - y + top) + below * (y - top))).max() <= 0.501


def test_bicubic_is_pillows():
    reference = np.asarray(Image.fromarray(PHOTO).resize((60, 60), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(PHOTO, 60, "bicubic_antialias"), reference)


def test_cmyk_is_turned_into_rgb():
    file = io.BytesIO()
    Image.fromarray(PHOTO).convert("CMYK").save(file, "JPEG", quality=95)
    reference = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"), np.int32)
    np.testing.assert_array_equal(decode(file.getvalue()), reference)
    assert np.abs(reference - PHOTO).mean() < 12


def test_sixteen_bits_are_rounded_to_eight():
    wide = PHOTO[..., 0].astype(np.uint16) * 257
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue())[..., 1], PHOTO[..., 0])


def test_an_animation_is_refused():
    file = io.BytesIO()
    frames = [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1])]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="an animation of 2 frames"):
        decode(file.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_bomb_is_refused_before_it_is_decoded(kind, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", None)
    with pytest.raises(DataError, match="160x120 pixels, more than 1,000"):
        decode(encoded(kind))
