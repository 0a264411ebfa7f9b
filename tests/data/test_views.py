"""Multi-crop geometry against an enumeration of its own: GoogLeNet's section 7 written out with
loops and slices.
"""

import io

import numpy as np
import pytest
from PIL import Image

from inception_jax.data.decode import resize
from inception_jax.data.source import DataError, Example
from inception_jax.data.views import (
    VIEWS,
    Viewer,
    compute_resized_shape,
    make_144_views,
    make_six_views,
    make_ten_views,
    make_twelve_views,
)

SHAPES = [(375, 500), (500, 375), (400, 400), (301, 977)]


def enumerated(height, width, size):
    """(scale, rows, columns, mirrored, needs resizing) of GoogLeNet's 144."""
    for scale in (round(s * size / 224) for s in (256, 288, 320, 352)):
        tall, wide = (
            (scale, round(width * scale / height))
            if height <= width
            else (round(height * scale / width), scale)
        )
        for third in range(3):
            spare = max(tall, wide) - scale
            along = (0, spare // 2, spare)[third]
            top, left = (along, 0) if tall > wide else (0, along)
            margin = scale - size
            corners = [
                (0, 0),
                (0, margin),
                (margin, 0),
                (margin, margin),
                (margin // 2, margin // 2),
            ]
            for mirrored in (False, True):
                for down, right in corners:
                    yield scale, top + down, left + right, size, mirrored
                yield scale, top, left, scale, mirrored


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [224, 299])
def test_the_144_views_match_googlenets_protocol(shape, size):
    found = [
        (view.side, view.box.top, view.box.left, view.box.height, view.mirrored)
        for view in make_144_views(*shape, size)
    ]
    assert len(found) == 144
    assert all(view.box.height == view.box.width for view in make_144_views(*shape, size))
    assert sorted(found) == sorted(enumerated(*shape, size))
    assert len(set(found)) == (48 if shape[0] == shape[1] else 144)


def test_the_144_views_have_the_published_offsets_and_scales():
    offsets = {view.box.top for view in make_144_views(400, 400, 224) if view.box.height == 224}
    assert offsets == {0, 16, 32, 48, 64, 96, 128}
    assert sorted({view.side for view in make_144_views(400, 400, 299)}) == [342, 384, 427, 470]


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_views_are_corners_and_centre_and_twelve_add_the_central_square(shape):
    tall, wide = compute_resized_shape(*shape, 256)
    corners = {
        (0, 0),
        (0, wide - 224),
        (tall - 224, 0),
        (tall - 224, wide - 224),
        ((tall - 224) // 2, (wide - 224) // 2),
    }
    assert {(view.box.top, view.box.left) for view in make_ten_views(*shape, 224)} == corners
    assert len(make_ten_views(*shape, 224)) == 10
    views = make_twelve_views(*shape, 224)
    assert len(views) == 12
    assert sum(view.box.height == 256 for view in views) == 2
    middle = abs(tall - wide) // 2
    assert min(view.box.top + view.box.left for view in views) == middle


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [224, 640])
def test_the_six_square_views_have_the_shorter_side_and_reach_both_ends(shape, size):
    tall, wide = compute_resized_shape(*shape, size)
    assert min(tall, wide) == size
    views = make_six_views(*shape, size)
    assert [view.mirrored for view in views] == [False, True] * 3
    assert {(view.box.height, view.box.width) for view in views} == {(size, size)}
    ends = {view.box.top + view.box.left for view in views}
    assert ends == {0, abs(tall - wide) // 2, abs(tall - wide)}


@pytest.mark.parametrize("views", VIEWS)
def test_a_viewer_crops_the_enumerated_views_exactly(views):
    image = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (160, 120), 3
        )
    )
    viewer = Viewer(views, 64, "antialias")
    into = np.empty((64, 64, 3), np.uint8)
    for which, view in enumerate(VIEWS[views](120, 160, 64)):
        viewer(Example(image, 0), 7 * views + which, into)
        scaled = np.empty((*compute_resized_shape(120, 160, view.side), 3), np.uint8)
        resize(image, scaled, "antialias")
        top, left, height, width = view.box
        cut = scaled[top : top + height, left : left + width]
        expected = np.empty((64, 64, 3), np.uint8)
        resize(np.ascontiguousarray(cut[:, ::-1] if view.mirrored else cut), expected, "antialias")
        np.testing.assert_array_equal(into, expected)


def test_an_image_that_would_fill_the_memory_when_resized_is_a_bad_example():
    """60,000 x 4 pixels at a shorter side of 342 are 1.75 billion, and took 5 GB in ten crops."""
    viewer = Viewer(10, 299, "bilinear")
    with pytest.raises(DataError, match="an image of 5130000x342 pixels, more than 67,108,864"):
        viewer(Example(np.zeros((4, 60_000, 3), np.uint8), 0), 0, np.empty((299, 299, 3), np.uint8))


def test_the_views_of_a_photograph_are_of_the_upright_image():
    rng = np.random.default_rng(0)
    upright = Image.fromarray(
        np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    )
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    for position in range(10):
        found, wanted = np.empty((32, 32, 3), np.uint8), np.empty((32, 32, 3), np.uint8)
        Viewer(10, 32, "bilinear")(Example(file.getvalue(), 0), position, found)
        Viewer(10, 32, "bilinear")(Example(np.asarray(upright), 0), position, wanted)
        np.testing.assert_array_equal(found, wanted)
