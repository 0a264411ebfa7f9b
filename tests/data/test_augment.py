import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from inception_jax.data.augment import SCALINGS, augment, mixup, scale_pixels, unscale_pixels

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
KEYS = jax.random.split(jax.random.key(0), 6)


def test_scale_maps_0_and_255_to_minus_one_and_one():
    np.testing.assert_allclose(
        scale_pixels(jnp.array([[0, 0, 0], [255, 255, 255]], jnp.uint8)), [[-1] * 3, [1] * 3]
    )


def test_augment_without_options_returns_the_images_unchanged():
    np.testing.assert_array_equal(augment(jnp.asarray(IMAGES), KEYS), IMAGES)


@pytest.mark.slow
def test_the_augmentation_of_an_example_depends_on_its_own_key_alone():
    options = {"translate": 2, "scale": 0.1, "rotate": 10, "flip": True}
    whole = augment(jnp.asarray(IMAGES), KEYS, **options)
    alone = augment(jnp.asarray(IMAGES[3:4]), KEYS[3:4], **options)
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-3)
    assert np.abs(np.asarray(augment(jnp.asarray(IMAGES), KEYS[::-1], **options)) - whole).max() > 1


def test_random_flips_mirror_about_half_of_the_images_exactly():
    many = jnp.tile(jnp.asarray(IMAGES[:1]), (400, 1, 1, 1))
    flipped = np.asarray(augment(many, jax.random.split(jax.random.key(1), 400), flip=True))
    mirrored = np.array([(image == IMAGES[0, :, ::-1]).all() for image in flipped])
    assert all((image == IMAGES[0]).all() for image in flipped[~mirrored])
    assert 0.4 < mirrored.mean() < 0.6


@pytest.mark.parametrize(
    "options",
    [
        {"translate": 3.0},
        {"rotate": 20.0},
        {"scale": 0.3},
        {"shear": 20.0},
        {"translate": 2.0, "rotate": 10.0, "scale": 0.2},
    ],
)
def test_random_affine_maps_match_scipy_and_stay_within_their_bounds(options):
    """The map is read off three images of coordinates; SciPy, given that map, must give the same
    pixels.
    """
    rows, columns = np.meshgrid(np.arange(12.0), np.arange(12.0), indexing="ij")
    ruler = np.stack([rows, columns, np.ones((12, 12))], -1)
    moved = np.asarray(
        augment(jnp.asarray(np.tile(ruler, (6, 1, 1, 1))), KEYS, **options), np.float64
    )
    found = np.asarray(augment(jnp.asarray(IMAGES), KEYS, **options))
    for image, ruled, wanted in zip(found, moved, IMAGES, strict=True):
        within = (ruled[..., :2] > 0.01) & (
            ruled[..., :2] < 10.99
        )  # on the border itself rounding decides
        inside = (ruled[..., 2] > 0.999) & within.all(-1)
        assert inside.sum() > 30
        design = np.stack([rows[inside] - 5.5, columns[inside] - 5.5, np.ones(inside.sum())], -1)
        map_, *_ = np.linalg.lstsq(design, ruled[inside][:, :2], rcond=None)
        np.testing.assert_allclose(design @ map_, ruled[inside][:, :2], atol=1e-3)
        assert np.abs(map_[2] - 5.5).max() <= options.get("translate", 0) + 1e-3
        lean = np.tan(np.deg2rad(options.get("shear", 0)))
        stretch = np.log(np.linalg.norm(map_[:2], axis=0))
        assert np.abs(stretch).max() <= options.get("scale", 0) + np.log(np.hypot(1, lean)) + 1e-3
        matrix, offset = map_[:2].T, map_[2] - map_[:2].T @ [5.5, 5.5]
        for channel in range(3):
            reference = ndimage.affine_transform(
                wanted[..., channel].astype(float), matrix, offset, order=1
            )
            np.testing.assert_allclose(image[inside][:, channel], reference[inside], atol=0.2)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("imagenet", [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.4 - 0.406) / 0.225]),
        ("cifar10", [-125.3 / 63, 132 / 62.1, -11.9 / 66.7]),
    ],
)
def test_scale_normalises_by_channel_means_and_standard_deviations(scaling, expected):
    np.testing.assert_allclose(
        scale_pixels(jnp.array([0, 255, 102], jnp.uint8), scaling), expected, rtol=1e-5
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_unscaling_inverts_scaling_for_every_byte_value(scaling):
    pixels = jnp.repeat(jnp.arange(256, dtype=jnp.uint8)[:, None], 3, 1)
    np.testing.assert_array_equal(unscale_pixels(scale_pixels(pixels, scaling), scaling), pixels)


@pytest.mark.parametrize(("reflect", "mode"), [(False, "constant"), (True, "reflect")])
def test_padded_random_crops_match_numpy_and_are_uniformly_distributed(reflect, mode):
    """Each result is one of the 81 crops of the padded image, and each place is drawn about as
    often.
    """
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (1, 12, 10, 3), np.uint8), 2000, 0)
    found = np.asarray(
        augment(
            jnp.asarray(images), jax.random.split(jax.random.key(0), 2000), pad=4, reflect=reflect
        )
    )
    wide = np.pad(images[0], ((4, 4), (4, 4), (0, 0)), mode=mode)
    crops = {wide[i : i + 12, j : j + 10].tobytes(): (i, j) for i in range(9) for j in range(9)}
    places = np.array([crops[image.tobytes()] for image in found])
    counts = np.histogram2d(*places.T, bins=[range(10), range(10)])[0]
    assert counts.min() > 5
    assert (np.abs(counts.sum(0) - 2000 / 9) < 60).all()
    assert (np.abs(counts.sum(1) - 2000 / 9) < 60).all()


@pytest.mark.slow
def test_mixup_blends_neighbours_and_their_labels_by_the_same_share():
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(-1, 1, (512, 2, 2, 3)).astype(np.float32), rng.integers(0, 10, 512)
    weights = np.ones(512, np.float32)
    weights[7] = 0
    keys = jax.random.split(jax.random.key(1), 512)
    blends, targets = map(
        np.asarray,
        mixup(
            jnp.asarray(images),
            jnp.asarray(labels),
            jnp.asarray(weights),
            keys,
            alpha=0.2,
            classes=10,
        ),
    )
    np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)
    own, other = images, np.roll(images, -1, 0)
    share = ((blends - other) * (own - other)).sum((1, 2, 3)) / ((own - other) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(
        blends,
        share[:, None, None, None] * own + (1 - share)[:, None, None, None] * other,
        atol=1e-5,
    )
    expected = (
        share[:, None] * np.eye(10)[labels] + (1 - share)[:, None] * np.eye(10)[np.roll(labels, -1)]
    )
    np.testing.assert_allclose(targets, expected, atol=1e-4)
    assert share[6] == pytest.approx(1, abs=1e-6)  # what follows it weighs nothing
    assert share.mean() == pytest.approx(0.5, abs=0.07)
    assert share.var() == pytest.approx(0.25 / (2 * 0.2 + 1), abs=0.03)  # of Beta(a, a)
