import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from inception_jax.data.augment import augment, scale

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
KEYS = jax.random.split(jax.random.key(0), 6)


def test_scaling_ends_at_one():
    np.testing.assert_allclose(scale(jnp.array([[0, 0, 0], [255, 255, 255]], jnp.uint8)), [[-1] * 3, [1] * 3])


def test_nothing_asked_is_nothing_done():
    np.testing.assert_array_equal(augment(jnp.asarray(IMAGES), KEYS), IMAGES)


def test_each_example_hangs_on_its_own_key_alone():
    options = {"shift": 2, "stretch": 0.1, "turn": 10, "flip": True}
    whole = augment(jnp.asarray(IMAGES), KEYS, **options)
    alone = augment(jnp.asarray(IMAGES[3:4]), KEYS[3:4], **options)
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-3)
    assert np.abs(np.asarray(augment(jnp.asarray(IMAGES), KEYS[::-1], **options)) - whole).max() > 1


def test_flips_are_half_and_exact():
    many = jnp.tile(jnp.asarray(IMAGES[:1]), (400, 1, 1, 1))
    flipped = np.asarray(augment(many, jax.random.split(jax.random.key(1), 400), flip=True))
    mirrored = np.array([(image == IMAGES[0, :, ::-1]).all() for image in flipped])
    assert all((image == IMAGES[0]).all() for image in flipped[~mirrored])
    assert 0.4 < mirrored.mean() < 0.6


@pytest.mark.parametrize(
    "options", [{"shift": 3.0}, {"turn": 20.0}, {"stretch": 0.3}, {"slant": 20.0}, {"shift": 2.0, "turn": 10.0, "stretch": 0.2}]
)
def test_moves_are_scipys_affine_maps_within_their_bounds(options):
    """The map is read off three images of coordinates; SciPy, given that map, must give the same pixels."""
    rows, columns = np.meshgrid(np.arange(12.0), np.arange(12.0), indexing="ij")
    ruler = np.stack([rows, columns, np.ones((12, 12))], -1)
    moved = np.asarray(augment(jnp.asarray(np.tile(ruler, (6, 1, 1, 1))), KEYS, **options), np.float64)
    found = np.asarray(augment(jnp.asarray(IMAGES), KEYS, **options))
    for image, ruled, wanted in zip(found, moved, IMAGES, strict=True):
        within = (ruled[..., :2] > 0.01) & (ruled[..., :2] < 10.99)  # on the border itself rounding decides
        inside = (ruled[..., 2] > 0.999) & within.all(-1)
        assert inside.sum() > 30
        design = np.stack([rows[inside] - 5.5, columns[inside] - 5.5, np.ones(inside.sum())], -1)
        map_, *_ = np.linalg.lstsq(design, ruled[inside][:, :2], rcond=None)
        np.testing.assert_allclose(design @ map_, ruled[inside][:, :2], atol=1e-3)
        assert np.abs(map_[2] - 5.5).max() <= options.get("shift", 0) + 1e-3
        lean = np.tan(np.deg2rad(options.get("slant", 0)))
        stretch = np.log(np.linalg.norm(map_[:2], axis=0))
        assert np.abs(stretch).max() <= options.get("stretch", 0) + np.log(np.hypot(1, lean)) + 1e-3
        matrix, offset = map_[:2].T, map_[2] - map_[:2].T @ [5.5, 5.5]
        for channel in range(3):
            reference = ndimage.affine_transform(wanted[..., channel].astype(float), matrix, offset, order=1)
            np.testing.assert_allclose(image[inside][:, channel], reference[inside], atol=0.2)
