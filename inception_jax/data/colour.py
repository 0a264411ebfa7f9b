"""Photometric distortion on the accelerator: each example under its own key, pixels in [0, 1].

The operations are TensorFlow's (`tf.image.adjust_*`): none clips but saturation, which clips S; what comes out of a whole
distortion is clipped once, at its end. They work on red, green and blue apart: pixels of three channels fill few of a TPU's lanes,
and slim's distortion of 64 images moved 7.6 GB there, with planes 4.0.
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
    """Distorts the colours of `images` [B, H, W, 3] of 0 to 255, each under its own of `keys` [B].

    Args:
      colour: `none` or one of `DISTORTIONS`.
      strength: times the ranges of that distortion.
      light: deviation of AlexNet's lighting; 0 for none.
    """

    def one(image: Planes, key: jax.Array) -> Planes:
        if colour != "none":
            image = DISTORTIONS[colour](image, jax.random.fold_in(key, 2), strength=strength)
        return add_lighting(image, jax.random.fold_in(key, 3), deviation=light) if light else image

    if colour == "none" and not light:
        return images
    return 255 * jnp.stack(jax.vmap(one)(split_planes(images.astype(jnp.float32) / 255), keys), -1)


def split_planes(images: jax.Array) -> Planes:
    return tuple(images[..., i] for i in range(3))


def adjust_brightness(image: Planes, delta: jax.Array) -> Planes:
    return tuple(plane + delta for plane in image)


def adjust_contrast(image: Planes, factor: jax.Array) -> Planes:
    """Stretches each channel about its mean."""
    means = [plane.mean() for plane in image]
    return tuple((plane - mean) * factor + mean for plane, mean in zip(image, means, strict=True))


def adjust_saturation(image: Planes, factor: jax.Array) -> Planes:
    hue, chroma, value = _to_hsv(image)
    return _to_rgb(hue, jnp.clip(chroma * factor, 0, 1), value)


def adjust_hue(image: Planes, delta: jax.Array) -> Planes:
    """Turns the colour wheel by `delta` of a full turn."""
    angle, chroma, value = _to_hsv(image)
    return _to_rgb((angle + delta) % 1.0, chroma, value)


def clip_pixels(image: Planes) -> Planes:
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
    angle = jnp.where(spread > 0, sixths / 6 % 1.0, 0.0)
    return angle, jnp.where(value > 0, spread / jnp.where(value > 0, value, 1.0), 0.0), value


def _to_rgb(angle: jax.Array, chroma: jax.Array, value: jax.Array) -> Planes:
    sixths = angle * 6
    wheel = clip_pixels((jnp.abs(sixths - 3) - 1, 2 - jnp.abs(sixths - 2), 2 - jnp.abs(sixths - 4)))
    return tuple((1 - chroma + chroma * plane) * value for plane in wheel)


SLIM = ((0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 0, 1), (2, 1, 3, 0))
SLIM_FAST = ((0, 1), (1, 0), (1, 0), (1, 0))
ORIGINAL = ((0, 1, 2, 3), (0, 3, 1, 2))
"""Orders of brightness 0, saturation 1, hue 2 and contrast 3: tensorflow/models, slim/preprocessing/inception_preprocessing.py,
its fast mode, and inception/image_processing.py, where the parity of the reading thread chose."""


def apply_color_ops(
    image: Planes,
    key: jax.Array,
    *,
    strength: float = 1.0,
    orders: Sequence[tuple[int, ...]] = SLIM,
) -> Planes:
    """Brightness, saturation, hue and contrast by random amounts, in one of `orders`.

    `strength` times the ranges: less photometric distortion (arXiv:1502.03167, section 4.2.1) is a strength below 1.
    """
    which, *keys = jax.random.split(key, 5)
    amounts = [
        jax.random.uniform(keys[0], minval=-32 / 255 * strength, maxval=32 / 255 * strength),
        jax.random.uniform(keys[1], minval=1 - 0.5 * strength, maxval=1 + 0.5 * strength),
        jax.random.uniform(keys[2], minval=-0.2 * strength, maxval=0.2 * strength),
        jax.random.uniform(keys[3], minval=1 - 0.5 * strength, maxval=1 + 0.5 * strength),
    ]
    steps = (adjust_brightness, adjust_saturation, adjust_hue, adjust_contrast)

    def in_order(order: tuple[int, ...], image: Planes) -> Planes:
        for i in order:
            image = steps[i](image, amounts[i])
        return clip_pixels(image)

    return jax.lax.switch(
        jax.random.randint(which, (), 0, len(orders)),
        [partial(in_order, order) for order in orders],
        image,
    )


def jitter_colours(image: Planes, key: jax.Array, *, strength: float = 1.0) -> Planes:
    """Brightness, contrast and saturation by factors of 0.6 to 1.4, in any order: torchvision's ColorJitter(0.4, 0.4, 0.4)."""
    places, amounts = jax.random.split(key)
    first, second, third = jax.random.uniform(
        amounts, (3,), minval=1 - 0.4 * strength, maxval=1 + 0.4 * strength
    )

    def grey(image: Planes) -> jax.Array:
        return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]

    def towards(
        other: Callable[[Planes], jax.Array | float], factor: jax.Array
    ) -> Callable[[Planes], Planes]:
        def mixed(image: Planes) -> Planes:
            rest = (1 - factor) * other(image)
            return clip_pixels(tuple(factor * plane + rest for plane in image))

        return mixed

    steps = [
        towards(lambda image: 0.0, first),
        towards(lambda image: grey(image).mean(), second),
        towards(grey, third),
    ]
    for step in jax.random.permutation(places, 3):
        image = jax.lax.switch(step, steps, image)
    return image


def distort_ycbcr(image: Planes, key: jax.Array, *, strength: float = 1.0) -> Planes:
    """One offset for luma and one for each chroma of YCbCr: tensorflow/tpu, inception_preprocessing.py, fast colour distortion."""
    luma, blue, red = (
        jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        * jnp.array([32 / 255, 0.1, 0.1])
        * strength
    )
    offsets = (1.402 * red, -0.344136 * blue - 0.714136 * red, 1.772 * blue)
    return clip_pixels(
        tuple(plane + offset + luma for plane, offset in zip(image, offsets, strict=True))
    )


EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
"""Of ImageNet's colours, in the columns; as facebook's fb.resnet.torch has them."""


def add_lighting(image: Planes, key: jax.Array, *, deviation: float = 0.1) -> Planes:
    """AlexNet's: the image moves along the principal components of ImageNet's colours (fb.resnet.torch's numbers)."""
    offsets = (EIGENVECTORS * (deviation * jax.random.normal(key, (3,)) * EIGENVALUES)).sum(-1)
    return tuple(plane + offsets[i] for i, plane in enumerate(image))


DISTORTIONS: dict[str, Callable[..., Planes]] = {
    "slim": apply_color_ops,
    "slim_fast": partial(apply_color_ops, orders=SLIM_FAST),
    "original": partial(apply_color_ops, orders=ORIGINAL),
    "tpu": distort_ycbcr,
    "jitter": jitter_colours,
}
