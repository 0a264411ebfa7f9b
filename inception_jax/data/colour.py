"""Photometric distortion on the accelerator, of pixels in [0, 1].

The operations are TensorFlow's (`tf.image.adjust_*`). Only saturation clips (S of HSV); the result
of a whole distortion is clipped once. Red, green and blue are separate arrays, since pixels of
three channels fill few of a TPU's lanes.

Note: On a TPU slim's distortion of 64 images moves 4.0 GB with separate planes, and 7.6 GB without.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Planes = tuple[jax.Array, ...]
"""Red, green and blue, [H, W] each."""


def distort_colours(
    images: jax.Array,
    keys: jax.Array,
    *,
    colour: str = "none",
    strength: float = 1.0,
    light: float = 0.0,
) -> jax.Array:
    """Distorts the colours of images [B, H, W, 3] with pixels of 0 to 255, each under its own key.

    Args:
      keys: [B].
      colour: `none` or one of `DISTORTIONS`.
      strength: Factor of the ranges of the distortion.
      light: Deviation of AlexNet's lighting; 0 for none.
    """

    def distort_one(image: Planes, key: jax.Array) -> Planes:
        if colour != "none":
            image = DISTORTIONS[colour](image, jax.random.fold_in(key, 2), strength=strength)
        return add_lighting(image, jax.random.fold_in(key, 3), deviation=light) if light else image

    if colour == "none" and not light:
        return images
    planes = split_planes(images.astype(jnp.float32) / 255)
    return 255 * jnp.stack(jax.vmap(distort_one)(planes, keys), -1)


def split_planes(images: jax.Array) -> Planes:
    """Returns the three channels of `images` [..., 3]."""
    return tuple(images[..., i] for i in range(3))


def adjust_brightness(image: Planes, delta: jax.Array) -> Planes:
    """Adds `delta` to every pixel."""
    return tuple(plane + delta for plane in image)


def adjust_contrast(image: Planes, factor: jax.Array) -> Planes:
    """Scales each channel by `factor` about its mean."""
    means = [plane.mean() for plane in image]
    return tuple((plane - mean) * factor + mean for plane, mean in zip(image, means, strict=True))


def adjust_saturation(image: Planes, factor: jax.Array) -> Planes:
    """Multiplies S of HSV by `factor`."""
    hue, saturation, value = _to_hsv(image)
    return _to_rgb(hue, jnp.clip(saturation * factor, 0, 1), value)


def adjust_hue(image: Planes, delta: jax.Array) -> Planes:
    """Adds `delta` to H of HSV, which is in [0, 1]."""
    hue, saturation, value = _to_hsv(image)
    return _to_rgb((hue + delta) % 1.0, saturation, value)


def clip_pixels(image: Planes) -> Planes:
    """Clips every pixel to [0, 1]."""
    return tuple(jnp.clip(plane, 0, 1) for plane in image)


def _to_hsv(image: Planes) -> Planes:
    red, green, blue = image
    value = jnp.maximum(jnp.maximum(red, green), blue)
    spread = value - jnp.minimum(jnp.minimum(red, green), blue)
    safe = jnp.where(spread > 0, spread, 1.0)
    sixths = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = jnp.where(spread > 0, sixths / 6 % 1.0, 0.0)
    saturation = jnp.where(value > 0, spread / jnp.where(value > 0, value, 1.0), 0.0)
    return hue, saturation, value


def _to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> Planes:
    sixths = hue * 6
    wheel = clip_pixels((jnp.abs(sixths - 3) - 1, 2 - jnp.abs(sixths - 2), 2 - jnp.abs(sixths - 4)))
    return tuple((1 - saturation + saturation * plane) * value for plane in wheel)


SLIM = ((0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 0, 1), (2, 1, 3, 0))
SLIM_FAST = ((0, 1), (1, 0), (1, 0), (1, 0))
ORIGINAL = ((0, 1, 2, 3), (0, 3, 1, 2))
"""Orders of brightness 0, saturation 1, hue 2 and contrast 3.

Source: tensorflow/models, slim/preprocessing/inception_preprocessing.py; its fast mode; and
inception/image_processing.py, where the parity of the reading thread chose the order.
"""


def apply_colour_ops(
    image: Planes,
    key: jax.Array,
    *,
    strength: float = 1.0,
    orders: Sequence[tuple[int, ...]] = SLIM,
) -> Planes:
    """Adjusts brightness, saturation, hue and contrast by random amounts, in one of `orders`.

    Args:
      strength: Factor of the ranges; "less photometric distortion" (arXiv:1502.03167, section
        4.2.1) is a strength below 1.
      orders: The orders to draw from.
    """
    order_key, *keys = jax.random.split(key, 5)
    amounts = [
        jax.random.uniform(keys[0], minval=-32 / 255 * strength, maxval=32 / 255 * strength),
        jax.random.uniform(keys[1], minval=1 - 0.5 * strength, maxval=1 + 0.5 * strength),
        jax.random.uniform(keys[2], minval=-0.2 * strength, maxval=0.2 * strength),
        jax.random.uniform(keys[3], minval=1 - 0.5 * strength, maxval=1 + 0.5 * strength),
    ]
    steps = (adjust_brightness, adjust_saturation, adjust_hue, adjust_contrast)

    def apply_in_order(order: tuple[int, ...], image: Planes) -> Planes:
        for i in order:
            image = steps[i](image, amounts[i])
        return clip_pixels(image)

    chosen = jax.random.randint(order_key, (), 0, len(orders))
    return jax.lax.switch(chosen, [partial(apply_in_order, order) for order in orders], image)


def jitter_colours(image: Planes, key: jax.Array, *, strength: float = 1.0) -> Planes:
    """Scales brightness, contrast and saturation by factors of 0.6 to 1.4, in a random order.

    Source: torchvision's ColorJitter(0.4, 0.4, 0.4).
    """
    order, amounts = jax.random.split(key)
    first, second, third = jax.random.uniform(
        amounts, (3,), minval=1 - 0.4 * strength, maxval=1 + 0.4 * strength
    )

    def to_grey(image: Planes) -> jax.Array:
        return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]

    def blend(
        other: Callable[[Planes], jax.Array | float], factor: jax.Array
    ) -> Callable[[Planes], Planes]:
        def apply(image: Planes) -> Planes:
            rest = (1 - factor) * other(image)
            return clip_pixels(tuple(factor * plane + rest for plane in image))

        return apply

    steps = [
        blend(lambda image: 0.0, first),
        blend(lambda image: to_grey(image).mean(), second),
        blend(to_grey, third),
    ]
    for step in jax.random.permutation(order, 3):
        image = jax.lax.switch(step, steps, image)
    return image


def distort_ycbcr(image: Planes, key: jax.Array, *, strength: float = 1.0) -> Planes:
    """Adds random offsets to luma and to both chromas of YCbCr.

    Source: tensorflow/tpu, inception_preprocessing.py, fast colour distortion.
    """
    draws = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    luma, blue, red = draws * jnp.array([32 / 255, 0.1, 0.1]) * strength
    offsets = (1.402 * red, -0.344136 * blue - 0.714136 * red, 1.772 * blue)
    pairs = zip(image, offsets, strict=True)
    return clip_pixels(tuple(plane + offset + luma for plane, offset in pairs))


EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
"""Eigenvectors of ImageNet's colours, in columns (facebook's fb.resnet.torch)."""


def add_lighting(image: Planes, key: jax.Array, *, deviation: float = 0.1) -> Planes:
    """Adds AlexNet's lighting: a random step along the principal components of ImageNet."""
    offsets = (EIGENVECTORS * (deviation * jax.random.normal(key, (3,)) * EIGENVALUES)).sum(-1)
    return tuple(plane + offsets[i] for i, plane in enumerate(image))


DISTORTIONS: dict[str, Callable[..., Planes]] = {
    "slim": apply_colour_ops,
    "slim_fast": partial(apply_colour_ops, orders=SLIM_FAST),
    "original": partial(apply_colour_ops, orders=ORIGINAL),
    "tpu": distort_ycbcr,
    "jitter": jitter_colours,
}
