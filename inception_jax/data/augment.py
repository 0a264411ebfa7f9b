"""What happens to pixels on the accelerator, inside the step: augmentation, each example under its own key, and scaling."""

import chex
import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def scale(images: jax.Array) -> jax.Array:
    """Pixels of 0 to 255 to float32 in [-1, 1], Inception's range."""
    return images.astype(jnp.float32) / 127.5 - 1


def augment(
    images: jax.Array,
    keys: jax.Array,
    *,
    shift: float = 0.0,
    stretch: float = 0.0,
    turn: float = 0.0,
    slant: float = 0.0,
    flip: bool = False,
) -> jax.Array:
    """Moves, stretches, turns, slants and mirrors `images` [B, H, W, C] of 0 to 255, each under its own of `keys` [B].

    Args:
      shift: pixels; each image moves by up to so many, up or down and left or right, and what comes in is 0.
      stretch: height and width are scaled about the centre, each by up to exp(+-stretch).
      turn: degrees; each image turns about its centre by up to so many, either way.
      slant: degrees; upright lines lean by up to so many, either way, as handwriting does.
      flip: mirror every other image.
    """
    chex.assert_equal_shape_prefix((images, keys), 1)
    if shift or stretch or turn or slant:
        images = jax.vmap(lambda image, key: _moved(image, jax.random.fold_in(key, 0), shift, stretch, turn, slant))(images, keys)
    if flip:
        images = jax.vmap(lambda image, key: _mirrored(image, jax.random.fold_in(key, 1)))(images, keys)
    return images


def _moved(image: jax.Array, key: jax.Array, shift: float, stretch: float, turn: float, slant: float) -> jax.Array:
    """Bilinear: each pixel is read from where an affine map, drawn from `key`, says that it comes from."""
    down, right, taller, wider, turned, slanted = jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)
    angle, lean = jnp.deg2rad(turn * turned), jnp.tan(jnp.deg2rad(slant * slanted))
    middle_row, middle_column = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    rows, columns = jnp.meshgrid(jnp.arange(image.shape[0]) - middle_row, jnp.arange(image.shape[1]) - middle_column, indexing="ij")
    columns = columns + lean * rows
    sources = (
        jnp.exp(stretch * taller) * (jnp.cos(angle) * rows - jnp.sin(angle) * columns) + middle_row + shift * down,
        jnp.exp(stretch * wider) * (jnp.sin(angle) * rows + jnp.cos(angle) * columns) + middle_column + shift * right,
    )
    read = jax.vmap(lambda channel: map_coordinates(channel, sources, order=1, mode="constant"), in_axes=-1, out_axes=-1)
    return read(image.astype(jnp.float32))


def _mirrored(image: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)
