"""Records the results of TensorFlow's operations: `python tests/data/record_tensorflow.py`.

The tests themselves need no TensorFlow.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("tensorflow.npz")
AMOUNTS = {"brightness": 0.1, "saturation": 1.4, "hue": -0.17, "contrast": 0.6}
ORDERS = {
    "slim_0": "BSHC",
    "slim_1": "SBCH",
    "slim_2": "CHBS",
    "slim_3": "HSCB",
    "original_1": "BCSH",
}
SIZES = (41, 71)
FIXED = 100
"""Resized pixels are stored times this, as integers."""


def record() -> None:
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    photograph = load_sample_images().images[1]
    small = photograph[100:116, 200:220].astype(np.float32) / 255
    large = photograph[60:120, 150:230]
    steps = {
        "B": lambda image: tf.image.adjust_brightness(image, AMOUNTS["brightness"]),
        "S": lambda image: tf.image.adjust_saturation(image, AMOUNTS["saturation"]),
        "H": lambda image: tf.image.adjust_hue(image, AMOUNTS["hue"]),
        "C": lambda image: tf.image.adjust_contrast(image, AMOUNTS["contrast"]),
    }
    found = {"small": small, "large": large}
    for name, letter in zip(AMOUNTS, "BSHC", strict=True):
        found[name] = steps[letter](small).numpy()
    for name, order in ORDERS.items():
        image = tf.constant(small)
        for letter in order:
            image = steps[letter](image)
        found[name] = tf.clip_by_value(image, 0, 1).numpy()
    for size in SIZES:
        shape = (size, size)
        found[f"bilinear_{size}"] = tf.image.resize(large, shape).numpy()
        found[f"antialias_{size}"] = tf.image.resize(large, shape, antialias=True).numpy()
        found[f"bicubic_antialias_{size}"] = tf.image.resize(
            large, shape, "bicubic", antialias=True
        ).numpy()
        found[f"tf1_bilinear_{size}"] = tf.compat.v1.image.resize_bilinear(large[None], shape)[
            0
        ].numpy()
        found[f"area_{size}"] = tf.image.resize(large, shape, "area").numpy()
    for name in found:  # fixed point takes half the room
        if name.split("_")[-1].isdecimal() and name not in ORDERS:
            found[name] = np.rint(found[name] * FIXED).astype(np.int16)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    record()
