"""Crop laws against the quantiles measured of TensorFlow's and torchvision's own, 20,000 draws of
a 375x500 image.
"""

import numpy as np
import pytest

from inception_jax.data.crop import (
    EVALUATION,
    TRAINING,
    Box,
    UniformDraws,
    crop_central,
    crop_square,
    sample_area_crop,
    sample_distorted_bbox,
    sample_scale_crop,
)

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MEASURED = {
    # mean area fraction, then quantiles
    "TF-Slim, 0.05 to 1, covered 0.1": (
        lambda draws: sample_distorted_bbox(draws, 375, 500, 0.05),
        0.391,
        (0.120, 0.213, 0.360, 0.540, 0.773),
    ),
    "TF, 0.08 to 1, covered 0": (
        lambda draws: sample_distorted_bbox(
            draws, 375, 500, 0.08, aspects=(3 / 4, 4 / 3), covered=0.0
        ),
        0.373,
        (0.096, 0.192, 0.336, 0.526, 0.775),
    ),
    "torchvision, 0.08 to 1": (
        lambda draws: sample_area_crop(draws, 375, 500, 0.08),
        0.432,
        (0.114, 0.248, 0.418, 0.593, 0.808),
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_crop_areas_are_distributed_as_in_tensorflow_and_torchvision(name):
    law, mean, quantiles = MEASURED[name]
    boxes = [law(UniformDraws(0, position)) for position in range(20_000)]
    areas = np.array([box.height * box.width for box in boxes]) / (375 * 500)
    assert areas.mean() == pytest.approx(mean, abs=0.01)
    np.testing.assert_allclose(np.quantile(areas, QUANTILES), quantiles, atol=0.01)
    for box in boxes:
        assert 0 <= box.top <= 375 - box.height
        assert 0 <= box.left <= 500 - box.width


def test_a_random_crop_depends_on_seed_and_position_alone():
    there = [sample_area_crop(UniformDraws(3, position), 300, 400, 0.08) for position in (5, 6, 7)]
    assert [
        sample_area_crop(UniformDraws(3, position), 300, 400, 0.08) for position in (7, 6, 5)
    ] == there[::-1]
    assert sample_area_crop(UniformDraws(4, 5), 300, 400, 0.08) != there[0]


def test_a_crop_that_never_fits_falls_back_to_the_centre_or_the_whole_image():
    assert sample_area_crop(UniformDraws(0, 0), 10, 1000, 1.0) == Box(0, 493, 10, 13)
    assert sample_distorted_bbox(UniformDraws(0, 0), 10, 1000, 1.0) == Box(0, 0, 10, 1000)


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(375, 500, (329, 438)), (400, 400, (350, 350))]
)
def test_the_central_crop_keeps_seven_eighths_of_each_side(height, width, expected):
    """Compares with `tf.image.central_crop`."""
    box = crop_central(height, width, 0.875)
    assert (box.height, box.width) == expected
    assert box.top * 2 + box.height == height


def test_the_square_crop_equals_resizing_the_shorter_side_and_cropping_the_centre():
    """Resize(342) and CenterCrop(299) of 375x500 see 299 / 342 of the shorter side."""
    assert crop_square(375, 500, 299 / 342) == Box(23, 86, 328, 328)


def test_a_run_crops_by_position_and_evaluates_the_centre():
    """The same example at two positions is seen differently, at one position always the same."""
    from dataclasses import replace

    from inception_jax.data.source import Example
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.recipes import load_recipe

    config = load_recipe("digits").config
    data = replace(config.data, margin=0, crop="area", test_crop="square", test_crop_fraction=0.5)
    run = Run(replace(config, data=data), all_devices_placement())
    pixels = np.arange(64 * 96 * 3, dtype=np.uint32).reshape(64, 96, 3) % 251
    example = Example(pixels.astype(np.uint8), 0)
    first, again, other = images = np.zeros((3, 32, 32, 3), np.uint8)
    for image, position in zip(images, (7, 7, 8), strict=True):
        run.training_pixels(example, position, image)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(run.pixels(example), example.image[16:48, 32:64])


def test_the_scale_crop_is_distributed_as_in_the_resnet_paper():
    """A square of 224 pixels out of a shorter side drawn from 256 to 480, whatever the image's
    size (arXiv:1512.03385).
    """
    boxes = [sample_scale_crop(UniformDraws(0, i), 375, 500, 1.0) for i in range(20_000)]
    sides = 224 * 375 / np.array([box.height for box in boxes])
    assert all(box.height == box.width for box in boxes)
    np.testing.assert_allclose(
        np.quantile(sides, [0.0, 0.25, 0.5, 0.75, 1.0]), [256, 312, 368, 424, 480], atol=3
    )
    places = np.array(
        [(box.top / (375 - box.height), box.left / (500 - box.width)) for box in boxes]
    )
    np.testing.assert_allclose(
        np.quantile(places, [0.1, 0.5, 0.9], axis=0), [[0.1] * 2, [0.5] * 2, [0.9] * 2], atol=0.015
    )


@pytest.mark.parametrize(
    ("law", "last"),
    [
        (lambda draws: sample_area_crop(draws, 8, 8, 0.08), 0),
        (lambda draws: sample_scale_crop(draws, 8, 8, 1.0, sides=(16, 16), size=8), 0),
        (
            lambda draws: sample_distorted_bbox(draws, 8, 8, 0.08),
            1,
        ),  # TensorFlow never draws the last row or column
    ],
    ids=["area", "scale", "height"],
)
def test_a_random_crop_lies_at_each_place_equally_often_up_to_the_borders(law, last):
    boxes = [law(UniformDraws(0, position)) for position in range(6000)]
    for places, sides in (
        ([box.top for box in boxes], [box.height for box in boxes]),
        ([box.left for box in boxes], [box.width for box in boxes]),
    ):
        found = np.bincount([place for place, side in zip(places, sides, strict=True) if side == 4])
        assert found.size == 8 - 4 + 1 - last
        np.testing.assert_allclose(
            found / found.sum(), 1 / found.size, atol=4 * np.sqrt(0.25 / found.sum())
        )


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 60_000), (60_000, 1), (2, 3), (4, 60_000)]
)
def test_every_crop_of_the_smallest_images_has_a_pixel_and_lies_within(height, width):
    """A side that rounded to 0 was an error of OpenCV's."""
    boxes = [
        rule(height, width, fraction)
        for rule in EVALUATION.values()
        for fraction in (1e-9, 0.1, 0.49, 0.875, 1)
    ]
    boxes += [
        rule(UniformDraws(0, position), height, width, 0.08)
        for rule in TRAINING.values()
        for position in range(50)
    ]
    for top, left, tall, wide in boxes:
        assert 1 <= tall <= height - top
        assert 1 <= wide <= width - left
        assert top >= 0
        assert left >= 0
