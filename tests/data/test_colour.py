"""Photometric distortion against TensorFlow's operations, Pillow's, NumPy and the standard
library's colorsys.
"""

import colorsys
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from inception_jax.data import colour
from tests.data.record_tensorflow import AMOUNTS, FILE, ORDERS

IMAGE = np.random.default_rng(0).uniform(0, 1, (7, 9, 3)).astype(np.float32)
GREY = np.repeat(IMAGE[..., :1], 3, -1)
TOLERANCE = 1 / 255 / 100


def done(distortion, image, *arguments, **options):
    """By an operation on planes, of an image [H, W, 3]."""
    return np.stack(distortion(colour.split_planes(image), *arguments, **options), -1)


def by_colorsys(image, change):
    return np.array(
        [
            [
                colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*map(float, pixel))))
                for pixel in row
            ]
            for row in image
        ]
    )


@pytest.mark.parametrize("image", [IMAGE, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_saturation_matches_colorsys(image, factor):
    expected = by_colorsys(image, lambda h, s, v: (h, min(s * factor, 1), v))
    np.testing.assert_allclose(
        done(colour.adjust_saturation, image, factor), expected, atol=TOLERANCE
    )


@pytest.mark.parametrize("image", [IMAGE, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("delta", [-0.2, 0.0, 0.15])
def test_hue_matches_colorsys(image, delta):
    expected = by_colorsys(image, lambda h, s, v: ((h + delta) % 1, s, v))
    np.testing.assert_allclose(done(colour.adjust_hue, image, delta), expected, atol=TOLERANCE)


def test_brightness_and_contrast_do_not_clip():
    np.testing.assert_allclose(
        done(colour.adjust_brightness, IMAGE, 0.5), IMAGE + 0.5, atol=TOLERANCE
    )
    mean = IMAGE.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(
        done(colour.adjust_contrast, IMAGE, 1.5), (IMAGE - mean) * 1.5 + mean, atol=TOLERANCE
    )
    assert np.asarray(done(colour.adjust_contrast, IMAGE, 1.5)).min() < 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (colour.SLIM, {1234: 1 / 4, 2143: 1 / 4, 3241: 1 / 4, 4312: 1 / 4}),
        (colour.SLIM_FAST, {12: 1 / 4, 21: 3 / 4}),
        (colour.ORIGINAL, {1234: 1 / 2, 1423: 1 / 2}),
    ],
    ids=["slim", "slim_fast", "original"],
)
def test_orders_of_colour_operations_occur_as_often_as_published(orders, expected, monkeypatch):
    """Replaces the four operations by ones that each append a digit to the first pixel."""
    for digit, name in enumerate(("brightness", "saturation", "hue", "contrast"), 1):
        monkeypatch.setattr(
            colour,
            f"adjust_{name}",
            lambda image, amount, digit=digit: tuple(plane * 10 + digit * 1e-4 for plane in image),
        )
    keys = jax.random.split(jax.random.key(0), 400)
    black = colour.split_planes(jnp.zeros((1, 1, 3)))
    ran = np.rint(
        np.asarray(
            jax.vmap(lambda key: colour.apply_colour_ops(black, key, orders=orders)[0])(keys)
        )[:, 0, 0]
        * 1e4
    )
    found = dict(zip(*np.unique(ran, return_counts=True), strict=True))
    assert found.keys() == expected.keys()
    for order, share in expected.items():
        assert found[order] / 400 == pytest.approx(share, abs=0.07)


@pytest.mark.slow
def test_slim_distortion_applies_its_four_operations_in_some_order_within_their_ranges():
    key = jax.random.key(3)
    _, *keys = jax.random.split(key, 5)
    low = jnp.array([-32 / 255, 0.5, -0.2, 0.5])
    high = jnp.array([32 / 255, 1.5, 0.2, 1.5])
    amounts = [
        jax.random.uniform(k, minval=a, maxval=b) for k, a, b in zip(keys, low, high, strict=True)
    ]
    steps = (
        colour.adjust_brightness,
        colour.adjust_saturation,
        colour.adjust_hue,
        colour.adjust_contrast,
    )
    found, least = done(colour.apply_colour_ops, IMAGE, key), np.inf
    for order in permutations(range(4)):
        image = jnp.asarray(IMAGE)
        for i in order:
            image = done(steps[i], image, amounts[i])
        least = min(least, np.abs(np.clip(image, 0, 1) - found).max())
    assert least < TOLERANCE


@pytest.mark.slow
def test_colour_distortions_of_strength_zero_leave_the_image_unchanged():
    for name, distortion in colour.DISTORTIONS.items():
        np.testing.assert_allclose(
            done(distortion, IMAGE, jax.random.key(0), strength=0.0),
            IMAGE,
            atol=TOLERANCE,
            err_msg=name,
        )


def test_the_tpu_distortion_adds_bounded_ycbcr_offsets():
    """BT.601: what is added is one luma and two chroma offsets; read back from the difference."""
    middle = np.full((2, 2, 3), 0.5, np.float32)
    for seed in range(50):
        red, green, blue = np.asarray(
            done(colour.distort_ycbcr, middle, jax.random.key(seed)) - middle
        )[0, 0]
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        assert abs(luma) <= 32 / 255 + 1e-6
        assert abs((blue - luma) / 1.772) <= 0.1 + 1e-4
        assert abs((red - luma) / 1.402) <= 0.1 + 1e-4


def test_lighting_noise_follows_imagenets_principal_components():
    moves = np.array(
        [
            np.asarray(done(colour.add_lighting, IMAGE, jax.random.key(seed)) - IMAGE)[0, 0]
            for seed in range(2000)
        ]
    )
    np.testing.assert_allclose(
        moves[0],
        np.asarray(done(colour.add_lighting, IMAGE, jax.random.key(0)) - IMAGE)[3, 4],
        atol=1e-6,
    )
    along = moves @ colour.EIGENVECTORS
    np.testing.assert_allclose(along.std(0), 0.1 * colour.EIGENVALUES, rtol=0.06)
    np.testing.assert_allclose(colour.EIGENVECTORS.T @ colour.EIGENVECTORS, np.eye(3), atol=1e-3)


@pytest.mark.slow
def test_the_colour_distortion_of_an_example_depends_on_its_own_key():
    images = jnp.asarray(np.stack([IMAGE, IMAGE, IMAGE]) * 255)
    keys = jax.random.split(jax.random.key(5), 3)
    options = {"colour": "tpu", "light": 0.1}
    whole = colour.distort_colours(images, keys, **options)
    np.testing.assert_allclose(
        colour.distort_colours(images[1:2], keys[1:2], **options)[0], whole[1], atol=1e-3
    )
    assert jnp.abs(whole[0] - whole[1]).max() > 1
    assert colour.distort_colours(images, keys) is images


TENSORFLOW = np.load(FILE)
STEPS = dict(
    zip(
        "BSHC",
        (
            colour.adjust_brightness,
            colour.adjust_saturation,
            colour.adjust_hue,
            colour.adjust_contrast,
        ),
        strict=True,
    )
)


@pytest.mark.parametrize("name", AMOUNTS)
def test_colour_operations_match_tensorflow(name):
    found = done(getattr(colour, f"adjust_{name}"), TENSORFLOW["small"], AMOUNTS[name])
    assert np.abs(found - TENSORFLOW[name]).max() < TOLERANCE


@pytest.mark.parametrize("name", ORDERS)
def test_ordered_colour_operations_match_tensorflow(name):
    image, amounts = TENSORFLOW["small"], dict(zip("BSHC", AMOUNTS.values(), strict=True))
    for letter in ORDERS[name]:
        image = done(STEPS[letter], image, amounts[letter])
    assert np.abs(np.clip(image, 0, 1) - TENSORFLOW[name]).max() < TOLERANCE
    numbers = tuple("BSHC".index(letter) for letter in ORDERS[name])
    assert numbers in (colour.SLIM if name.startswith("slim") else colour.ORIGINAL)


def enhanced(image, name, factor):
    """Returns torchvision's `adjust_<name>` of an image in [0, 1]."""
    grey = (image @ [0.299, 0.587, 0.114])[..., None]
    other = {"Brightness": 0, "Contrast": grey.mean(), "Color": grey}[name]
    return np.clip(factor * image + (1 - factor) * other, 0, 1)


@pytest.mark.parametrize("name", ["Brightness", "Contrast", "Color"])
def test_the_numpy_reference_for_enhancement_matches_pillow(name):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    for factor in (0.6, 1.3):
        pillows = np.asarray(
            getattr(ImageEnhance, name)(Image.fromarray(pixels)).enhance(factor), float
        )
        assert (
            np.abs(enhanced(pixels / 255, name, factor) * 255 - pillows).max() < 1.5
        )  # it rounds the grey, and cuts off what comes out


def test_colour_jitter_applies_its_three_enhancements_in_all_six_orders():
    ran = set()
    keys = jax.random.split(jax.random.key(0), 24)
    jittered = jax.jit(
        jax.vmap(lambda key: jnp.stack(colour.jitter_colours(colour.split_planes(IMAGE), key), -1))
    )(keys)
    drawn = jax.vmap(
        lambda key: jax.random.uniform(jax.random.split(key)[1], (3,), minval=0.6, maxval=1.4)
    )(keys)
    for found, factors in zip(np.asarray(jittered), np.asarray(drawn), strict=True):
        differences = {}
        for order in permutations(range(3)):
            image = IMAGE
            for i in order:
                image = enhanced(image, ("Brightness", "Contrast", "Color")[i], factors[i])
            differences[order] = np.abs(image - found).max()
        best = min(differences, key=differences.get)
        assert differences[best] < TOLERANCE
        ran.add(best)
    assert len(ran) == 6
