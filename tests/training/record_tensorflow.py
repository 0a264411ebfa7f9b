"""What TensorFlow 1's training rules give over 40 steps: `python
tests/training/record_tensorflow.py` in an environment with TensorFlow writes `tensorflow.npz`
beside this file (recorded with TensorFlow 2.21, `tf.compat.v1`).
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("tensorflow.npz")
STEPS, SIZE = 40, 6
EPSILONS = (1.0, 1e-3)


def given() -> dict[str, np.ndarray]:
    """Weights to begin with, gradients over three decades of sizes, logits and labels."""
    rng = np.random.default_rng(0)
    return {
        "start": rng.normal(size=SIZE),
        "gradients": rng.normal(size=(STEPS, SIZE)) * 10.0 ** np.linspace(-2, 1, SIZE),
        "logits": rng.normal(size=(5, 10)) * 3,
        "labels": rng.integers(0, 10, 5),
    }


def record() -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    data = given()
    found = dict(data)
    for epsilon in EPSILONS:
        weights = tf.Variable(data["start"])
        step = tf.Variable(0, dtype=tf.int64)
        rate = v1.train.exponential_decay(
            tf.constant(0.05, tf.float64), step, 7, 0.94, staircase=True
        )
        rule = v1.train.RMSPropOptimizer(rate, decay=0.9, momentum=0.9, epsilon=epsilon)
        path, rates = [], []
        for gradient in data["gradients"]:
            rates.append(float(rate() if callable(rate) else rate))
            clipped, _ = tf.clip_by_global_norm([tf.constant(gradient)], 2.0)
            rule.apply_gradients([(clipped[0], weights)], global_step=step)
            path.append(weights.numpy())
        found[f"rmsprop_{epsilon}"] = np.array(path)
        found[f"rates_{epsilon}"] = np.array(rates)
    found["smoothed"] = v1.losses.softmax_cross_entropy(
        tf.one_hot(data["labels"], 10, dtype=tf.float64),
        data["logits"],
        label_smoothing=0.1,
        reduction="none",
    ).numpy()
    variable, step = tf.Variable(data["start"]), tf.Variable(0, dtype=tf.int64)
    follower = tf.train.ExponentialMovingAverage(0.999, num_updates=step)
    follower.apply([variable])
    followed = []
    for n, gradient in enumerate(data["gradients"]):
        variable.assign(data["start"] + gradient)
        step.assign(n)
        follower.apply([variable])
        followed.append(follower.average(variable).numpy())
    found["followed"] = np.array(followed)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    record()
