"""Augmentation and scaling of images on the accelerator, inside the step."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

SCALINGS = {
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vgg": ((123.68 / 255, 116.78 / 255, 103.94 / 255), (1 / 255,) * 3),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3),
    "googlenet": ((123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3),
    "cadene": ((128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3),
    "facenet": ((127.5 / 255,) * 3, (128 / 255,) * 3),
    "cifar10": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "cifar100": ((129.3 / 255, 124.1 / 255, 112.4 / 255), (68.2 / 255, 65.4 / 255, 70.4 / 255)),
}
"""Name -> (mean, deviation) of red, green and blue, for pixels in [0, 1].

`inception` gives the range [-1, 1]; `imagenet` is torchvision's. `vgg` (TF-Slim's VGG and ResNets),
`caffe` (Keras and He), `googlenet` (BVLC) and `cadene` (its BN-Inception) subtract a mean from
pixels of 0 to 255. `facenet` is its fixed standardisation; `cifar10` and `cifar100` are those of
the wide ResNets (szagoruyko/wide-residual-networks).
"""


def scale_pixels(images: jax.Array, scaling: str = "inception") -> jax.Array:
    """Returns (images - mean) / deviation in float32, with pixels of 0 to 255 and `SCALINGS`."""
    mean, deviation = np.array(SCALINGS[scaling])
    return images.astype(jnp.float32) / np.float32(255 * deviation) - np.float32(mean / deviation)


def unscale_pixels(images: jax.Array, scaling: str = "inception") -> jax.Array:
    """Returns the uint8 images that `scale_pixels` scaled."""
    mean, deviation = np.array(SCALINGS[scaling])
    pixels = (images + np.float32(mean / deviation)) * np.float32(255 * deviation)
    return jnp.clip(jnp.rint(pixels), 0, 255).astype(jnp.uint8)


def augment(
    images: jax.Array,
    keys: jax.Array,
    *,
    translate: float = 0.0,
    scale: float = 0.0,
    rotate: float = 0.0,
    shear: float = 0.0,
    flip: bool = False,
    pad: int = 0,
    reflect: bool = False,
) -> jax.Array:
    """Augments images [B, H, W, C] with pixels of 0 to 255, each under its own key of `keys` [B].

    Args:
      translate: The largest distance in pixels, along both axes; new pixels are 0.
      scale: Height and width are each scaled by up to exp(+-scale) about the centre.
      rotate: The largest angle in degrees, about the centre.
      shear: The largest angle in degrees by which upright lines lean, as in handwriting.
      flip: Whether to mirror half of the images.
      pad: Pixels of padding on each side, before a random crop to the original size.
      reflect: Whether to pad with the image's reflection instead of 0.
    """
    chex.assert_equal_shape_prefix((images, keys), 1)
    fold_in = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    if translate or scale or rotate or shear:
        transform = partial(
            _transform, translate=translate, scale=scale, rotate=rotate, shear=shear
        )
        images = jax.vmap(transform)(images, fold_in(keys, 0))
    if flip:
        images = jax.vmap(_mirror_half)(images, fold_in(keys, 1))
    if pad:
        pad_and_crop = partial(_pad_and_crop, pad=pad, reflect=reflect)
        images = jax.vmap(pad_and_crop)(images, fold_in(keys, 4))
    return images


def mixup(
    images: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    keys: jax.Array,
    *,
    alpha: float,
    classes: int,
) -> tuple[jax.Array, jax.Array]:
    """Blends each image with the next one of the batch (arXiv:1710.09412).

    Args:
      images: [B, H, W, C].
      labels: Classes [B].
      weights: [B]; images of weight 0 are blended into no other.
      alpha: The share of the first image is drawn from Beta(alpha, alpha).
      classes: Number of classes.

    Returns:
      The blended images and their targets [B, classes].
    """
    share = jax.vmap(lambda key: jax.random.beta(jax.random.fold_in(key, 5), alpha, alpha))(keys)
    share = jnp.where(jnp.roll(weights, -1) > 0, share, 1)

    def blend(x: jax.Array) -> jax.Array:
        mix = jax.vmap(lambda share, own, next_: share * own + (1 - share) * next_)
        return mix(share, x, jnp.roll(x, -1, 0))

    return blend(images), blend(jax.nn.one_hot(labels, classes))


def _pad_and_crop(image: jax.Array, key: jax.Array, *, pad: int, reflect: bool) -> jax.Array:
    mode = "reflect" if reflect else "constant"
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _transform(
    image: jax.Array, key: jax.Array, *, translate: float, scale: float, rotate: float, shear: float
) -> jax.Array:
    """Applies a random affine map with bilinear interpolation."""
    draws = jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)
    down, right, taller, wider, rotated, sheared = draws
    angle, lean = jnp.deg2rad(rotate * rotated), jnp.tan(jnp.deg2rad(shear * sheared))
    middle_row, middle_column = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    rows, columns = jnp.meshgrid(
        jnp.arange(image.shape[0]) - middle_row,
        jnp.arange(image.shape[1]) - middle_column,
        indexing="ij",
    )
    columns = columns + lean * rows
    from_rows = jnp.exp(scale * taller) * (jnp.cos(angle) * rows - jnp.sin(angle) * columns)
    from_columns = jnp.exp(scale * wider) * (jnp.sin(angle) * rows + jnp.cos(angle) * columns)
    sources = (
        from_rows + middle_row + translate * down,
        from_columns + middle_column + translate * right,
    )
    sample = partial(map_coordinates, coordinates=sources, order=1, mode="constant")
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image.astype(jnp.float32))


def _mirror_half(image: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)
