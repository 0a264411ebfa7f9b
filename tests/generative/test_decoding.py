"""Images become RGB as Pillow makes them, and what was converted is named."""

import io

import numpy as np
import pytest
from PIL import Image

from inception_jax.data.source import DataError
from inception_jax.generative.decoding import decode_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)


def encode(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "conversion"),
    [
        ("RGB", ()),
        ("L", ("grey",)),
        ("LA", ("grey, transparency dropped",)),
        ("P", ("palette",)),
        ("RGBA", ("transparency dropped",)),
        ("1", ("black and white",)),
    ],
)
def test_a_mode_of_pillow_becomes_rgb(mode, conversion):
    image = Image.fromarray(PIXELS).convert(mode)
    found = decode_rgb(encode(image))
    np.testing.assert_array_equal(found.pixels, np.asarray(image.convert("RGB")))
    assert found.conversions == conversion


def test_sixteen_bits_are_cut_off_as_pillow_does_and_named():
    found = decode_rgb(encode(Image.fromarray(np.full((2, 2), 1000, np.uint16))))
    assert found.pixels.max() == found.pixels.min() == 255
    assert found.conversions == ("16 bits, values above 255 cut off",)


def test_of_an_animation_the_first_image_is_taken_and_named():
    frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)).convert("P") for v in (10, 200)]
    found = decode_rgb(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert "animation, the first image taken" in found.conversions
    assert found.pixels.max() < 100


def test_an_exif_orientation_is_named_and_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode_rgb(encode(Image.fromarray(PIXELS), "JPEG", exif=exif))
    assert found.pixels.shape == (9, 13, 3)
    assert found.conversions == ("EXIF orientation, not applied",)


def test_arrays_of_grey_are_repeated_and_named():
    for pixels in (PIXELS[..., 0], PIXELS[..., :1]):
        found = decode_rgb(pixels)
        np.testing.assert_array_equal(found.pixels, np.stack([PIXELS[..., 0]] * 3, axis=2))
        assert found.conversions == ("grey",)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS.transpose(2, 0, 1), "uint8 .3, 9, 13.*channels come last"),
        (np.concatenate([PIXELS, PIXELS[..., :1]], 2), "9, 13, 4"),
        (PIXELS.astype(np.float32), "float32"),
        (b"GIF8not an image", "no readable image"),
        (encode(Image.fromarray(PIXELS))[:-30], "no readable image"),
    ],
)
def test_other_channels_and_broken_files_are_refused(image, message):
    with pytest.raises(DataError, match=message):
        decode_rgb(image)
