"""Resizing beside other programs: recorded pixels of torch-fidelity, torch and Pillow."""

import jax
import numpy as np
import pytest
from PIL import Image

from inception_jax.generative.resizing import make_taps, resize_images
from tests.generative.samples import CHECKSUMS, load, make_image, make_images

RECORDED = {"tf1": "tf1", "half_pixel": "half", "antialias": "anti", "bicubic": "clean"}
BOUND = 1.1e-3
"""On the scale of 0..255."""


def resize_compiled(images, rule, target):
    return np.asarray(jax.jit(lambda x: resize_images(x, rule, target))(images))


@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("rule", RECORDED)
@pytest.mark.parametrize("place", ["device", "host"])
def test_pixels_are_those_of_the_program_with_the_rule(rule, size, place):
    images = make_images("A", 2, size)
    expected = load("resize_fixture")[f"{RECORDED[rule]}{size}"]
    resize = resize_compiled if place == "device" else resize_images
    found = resize(images, rule, 299)
    assert found.dtype == np.float32
    assert found.shape == (2, 299, 299, 3)
    difference = np.abs(found[:, ::23, ::23] - expected).max()
    assert difference <= (0 if rule == "tf1" else BOUND)


def interpolate_from_the_corner(image, height, width):
    """TensorFlow 1's rule for one pixel at a time, along x and then along y, in float32."""

    def find(count, size):
        place = np.arange(count, dtype=np.float32) * np.float32(size / count)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, size - 1), place - low.astype(np.float32)

    rows, columns = find(height, image.shape[0]), find(width, image.shape[1])
    image, found = image.astype(np.float32), np.empty((height, width, 3), np.float32)
    for i, (top, bottom, y) in enumerate(zip(*rows, strict=True)):
        for j, (left, right, x) in enumerate(zip(*columns, strict=True)):
            upper = image[top, left] + (image[top, right] - image[top, left]) * x
            lower = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * x
            found[i, j] = upper + (lower - upper) * y
    return found


@pytest.mark.parametrize("shape", [(20, 37), (41, 29), (1, 9), (31, 31)])
def test_tensorflow_1s_rule_has_its_bits_for_any_shape(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = resize_compiled(image[None], "tf1", 31)[0]
    np.testing.assert_array_equal(found, interpolate_from_the_corner(image, 31, 31))
    np.testing.assert_array_equal(resize_images(image[None], "tf1", 31)[0], found)


@pytest.mark.parametrize("shape", [(40, 90), (333, 17), (5, 5)])
def test_the_cubic_rule_is_pillows_on_floats(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = np.stack(
        [
            np.asarray(
                Image.fromarray(image[..., i].astype(np.float32), mode="F").resize(
                    (64, 64), Image.Resampling.BICUBIC
                )
            )
            for i in range(3)
        ],
        axis=2,
    ).clip(0, 255)
    found = resize_compiled(image[None], "bicubic", 64)[0]
    assert np.abs(found - expected).max() < BOUND


@pytest.mark.parametrize("rule", ["half_pixel", "antialias", "bicubic"])
@pytest.mark.parametrize("shape", [(40, 90), (333, 17)])
def test_rules_with_half_pixels_are_jaxs(rule, shape):
    image = np.random.default_rng(0).integers(0, 256, (1, *shape, 3), np.uint8)
    method = "cubic" if rule == "bicubic" else "linear"
    expected = jax.image.resize(
        image.astype(np.float32), (1, 64, 64, 3), method, antialias=rule != "half_pixel"
    )
    found = resize_compiled(image, rule, 64)
    assert np.abs(found - np.asarray(expected).clip(0, 255)).max() < BOUND


def test_enlarged_images_are_the_same_with_and_without_antialiasing():
    images = make_images("B", 1, 64)
    plain = resize_images(images, "half_pixel", 299)
    assert np.abs(resize_images(images, "antialias", 299) - plain).max() < BOUND


def test_weights_of_a_pixel_add_up_to_one():
    for rule in ("antialias", "bicubic"):
        np.testing.assert_allclose(make_taps(rule, 512, 299).weights.sum(1), 1, atol=1e-6)


def test_the_images_of_the_fixtures_are_drawn_to_the_bit():
    import zlib

    for (kind, size), expected in CHECKSUMS.items():
        found = 0
        for index in range(256):
            found = zlib.crc32(make_image(kind, index, size).tobytes(), found)
        assert found == expected
