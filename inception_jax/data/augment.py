"""What happens to pixels on the accelerator, inside the step: augmentation, each example under its own key, and scaling."""

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
"""Mean and deviation of each channel (red, green, blue), of pixels in [0, 1]: Inception's range [-1, 1]; torchvision's numbers for
ImageNet; pixels of 0 to 255 less a mean alone, as TF-Slim's VGG and ResNets, Keras's and He's, BVLC's GoogLeNet and Cadene's
BN-Inception want them; facenet's fixed standardisation; those of the wide ResNets (szagoruyko/wide-residual-networks)."""


def scale_pixels(images: jax.Array, scaling: str = "inception") -> jax.Array:
    """Pixels of 0 to 255 to float32, less the mean and over the deviation of `SCALINGS`."""
    mean, deviation = np.array(SCALINGS[scaling])
    return images.astype(jnp.float32) / np.float32(255 * deviation) - np.float32(mean / deviation)


def unscale_pixels(images: jax.Array, scaling: str = "inception") -> jax.Array:
    """What `scale_pixels` was given, as uint8."""
    mean, deviation = np.array(SCALINGS[scaling])
    return jnp.clip(
        jnp.rint((images + np.float32(mean / deviation)) * np.float32(255 * deviation)), 0, 255
    ).astype(jnp.uint8)


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
    """Moves, stretches, turns, slants, mirrors and pads and crops `images` [B, H, W, C] of 0 to 255, each under its own of `keys` [B].

    Args:
      translate: pixels; each image moves by up to so many, up or down and left or right, and what comes in is 0.
      scale: height and width are scaled about the centre, each by up to exp(+-scale).
      rotate: degrees; each image turns about its centre by up to so many, either way.
      shear: degrees; upright lines lean by up to so many, either way, as handwriting does.
      flip: mirror every other image.
      pad: pixels; each image is padded by so many on all sides, by 0 or, with `reflect`, by its own reflection, and
        cropped at random to its size.
    """
    chex.assert_equal_shape_prefix((images, keys), 1)
    if translate or scale or rotate or shear:
        images = jax.vmap(
            lambda image, key: _moved(
                image, jax.random.fold_in(key, 0), translate, scale, rotate, shear
            )
        )(images, keys)
    if flip:
        images = jax.vmap(lambda image, key: _mirrored(image, jax.random.fold_in(key, 1)))(
            images, keys
        )
    if pad:
        images = jax.vmap(
            lambda image, key: _padded_and_cropped(image, jax.random.fold_in(key, 4), pad, reflect)
        )(images, keys)
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
    """Blends each image with the next one of the batch (arXiv:1710.09412), with a share of its own from Beta(alpha, alpha).

    Args:
      labels: [B], the classes of `images` [B, H, W, C].
      weights: [B]; what weighs 0 is blended into none.

    Returns:
      The blends, and their targets [B, classes].
    """
    share = jax.vmap(lambda key: jax.random.beta(jax.random.fold_in(key, 5), alpha, alpha))(keys)
    share = jnp.where(jnp.roll(weights, -1) > 0, share, 1)
    blend = lambda x: jax.vmap(lambda s, own, other: s * own + (1 - s) * other)(
        share, x, jnp.roll(x, -1, 0)
    )  # noqa: E731
    return blend(images), blend(jax.nn.one_hot(labels, classes))


def _padded_and_cropped(image: jax.Array, key: jax.Array, pad: int, reflect: bool) -> jax.Array:
    wide = jnp.pad(
        image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect" if reflect else "constant"
    )
    down, right = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return jax.lax.dynamic_slice(wide, (down, right, 0), image.shape)


def _moved(
    image: jax.Array, key: jax.Array, translate: float, scale: float, rotate: float, shear: float
) -> jax.Array:
    """Bilinear: each pixel is read from where an affine map, drawn from `key`, says that it comes from."""
    down, right, taller, wider, turned, slanted = jax.random.uniform(
        key, (6,), minval=-1.0, maxval=1.0
    )
    angle, lean = jnp.deg2rad(rotate * turned), jnp.tan(jnp.deg2rad(shear * slanted))
    middle_row, middle_column = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    rows, columns = jnp.meshgrid(
        jnp.arange(image.shape[0]) - middle_row,
        jnp.arange(image.shape[1]) - middle_column,
        indexing="ij",
    )
    columns = columns + lean * rows
    sources = (
        jnp.exp(scale * taller) * (jnp.cos(angle) * rows - jnp.sin(angle) * columns)
        + middle_row
        + translate * down,
        jnp.exp(scale * wider) * (jnp.sin(angle) * rows + jnp.cos(angle) * columns)
        + middle_column
        + translate * right,
    )
    read = jax.vmap(
        lambda channel: map_coordinates(channel, sources, order=1, mode="constant"),
        in_axes=-1,
        out_axes=-1,
    )
    return read(image.astype(jnp.float32))


def _mirrored(image: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)
