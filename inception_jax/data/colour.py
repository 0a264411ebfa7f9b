"""Photometric distortion on the accelerator: each example under its own key, pixels in [0, 1].

The operations are TensorFlow's (`tf.image.adjust_*`): none clips but saturation, which clips S; what comes out of a whole
distortion is clipped once, at its end.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def distort(images: jax.Array, keys: jax.Array, *, colour: str = "none", strength: float = 1.0, light: float = 0.0) -> jax.Array:
    """Distorts the colours of `images` [B, H, W, 3] of 0 to 255, each under its own of `keys` [B].

    Args:
      colour: `none` or one of `DISTORTIONS`.
      strength: times the ranges of that distortion.
      light: deviation of AlexNet's lighting; 0 for none.
    """

    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        if colour != "none":
            image = DISTORTIONS[colour](image, jax.random.fold_in(key, 2), strength=strength)
        return lighting(image, jax.random.fold_in(key, 3), deviation=light) if light else image

    return 255 * jax.vmap(one)(images.astype(jnp.float32) / 255, keys) if colour != "none" or light else images


def brightness(image: jax.Array, delta: jax.Array) -> jax.Array:
    return image + delta


def contrast(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Stretches each channel about its mean."""
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * factor + mean


def saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
    hue, chroma, value = _to_hsv(image)
    return _to_rgb(hue, jnp.clip(chroma * factor, 0, 1), value)


def hue(image: jax.Array, delta: jax.Array) -> jax.Array:
    """Turns the colour wheel by `delta` of a full turn."""
    angle, chroma, value = _to_hsv(image)
    return _to_rgb((angle + delta) % 1.0, chroma, value)


def _to_hsv(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = image.max(-1)
    spread = value - image.min(-1)
    safe = jnp.where(spread > 0, spread, 1.0)
    sixths = jnp.where(value == red, (green - blue) / safe, jnp.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    angle = jnp.where(spread > 0, sixths / 6 % 1.0, 0.0)
    return angle, jnp.where(value > 0, spread / jnp.where(value > 0, value, 1.0), 0.0), value


def _to_rgb(angle: jax.Array, chroma: jax.Array, value: jax.Array) -> jax.Array:
    sixths = angle * 6
    wheel = jnp.stack([jnp.abs(sixths - 3) - 1, 2 - jnp.abs(sixths - 2), 2 - jnp.abs(sixths - 4)], -1)
    return ((1 - chroma)[..., None] + chroma[..., None] * jnp.clip(wheel, 0, 1)) * value[..., None]


SLIM = ((0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 0, 1), (2, 1, 3, 0))
SLIM_FAST = ((0, 1), (1, 0), (1, 0), (1, 0))
ORIGINAL = ((0, 1, 2, 3), (0, 3, 1, 2))
"""Orders of brightness 0, saturation 1, hue 2 and contrast 3: tensorflow/models, slim/preprocessing/inception_preprocessing.py,
its fast mode, and inception/image_processing.py, where the parity of the reading thread chose."""


def in_an_order(image: jax.Array, key: jax.Array, *, strength: float = 1.0, orders: Sequence[tuple[int, ...]] = SLIM) -> jax.Array:
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
    steps = (brightness, saturation, hue, contrast)

    def in_order(order: tuple[int, ...], image: jax.Array) -> jax.Array:
        for i in order:
            image = steps[i](image, amounts[i])
        return jnp.clip(image, 0, 1)

    return jax.lax.switch(jax.random.randint(which, (), 0, len(orders)), [partial(in_order, order) for order in orders], image)


def jitter(image: jax.Array, key: jax.Array, *, strength: float = 1.0) -> jax.Array:
    """Brightness, contrast and saturation by factors of 0.6 to 1.4, in any order: torchvision's ColorJitter(0.4, 0.4, 0.4)."""
    places, amounts = jax.random.split(key)
    first, second, third = jax.random.uniform(amounts, (3,), minval=1 - 0.4 * strength, maxval=1 + 0.4 * strength)

    def grey(image: jax.Array) -> jax.Array:
        return (image @ jnp.array([0.299, 0.587, 0.114]))[..., None]

    def towards(other: Callable[[jax.Array], jax.Array | float], factor: jax.Array) -> Callable[[jax.Array], jax.Array]:
        return lambda image: jnp.clip(factor * image + (1 - factor) * other(image), 0, 1)

    steps = [towards(lambda image: 0.0, first), towards(lambda image: grey(image).mean(), second), towards(grey, third)]
    for step in jax.random.permutation(places, 3):
        image = jax.lax.switch(step, steps, image)
    return image


def tpu(image: jax.Array, key: jax.Array, *, strength: float = 1.0) -> jax.Array:
    """One offset for luma and one for each chroma of YCbCr: tensorflow/tpu, inception_preprocessing.py, fast colour distortion."""
    luma, blue, red = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0) * jnp.array([32 / 255, 0.1, 0.1]) * strength
    offsets = jnp.stack([1.402 * red, -0.344136 * blue - 0.714136 * red, 1.772 * blue]) + luma
    return jnp.clip(image + offsets, 0, 1)


EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32)
"""Of ImageNet's colours, in the columns; as facebook's fb.resnet.torch has them."""


def lighting(image: jax.Array, key: jax.Array, *, deviation: float = 0.1) -> jax.Array:
    """AlexNet's: the image moves along the principal components of ImageNet's colours (fb.resnet.torch's numbers)."""
    return image + EIGENVECTORS @ (deviation * jax.random.normal(key, (3,)) * EIGENVALUES)


DISTORTIONS: dict[str, Callable[..., jax.Array]] = {
    "slim": in_an_order,
    "slim_fast": partial(in_an_order, orders=SLIM_FAST),
    "original": partial(in_an_order, orders=ORIGINAL),
    "tpu": tpu,
    "jitter": jitter,
}
