"""Inception-v3 on Cloud TPUs: batch 1024, linear scaling.

    inception-jax train inception_v3_tpu

Source: tensorflow/tpu, models/experimental/inception/inception_v3.py
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: a TPU v2-8; the same curve is reported for 512 cores.
Published: over 78.1 % top-1 after about 170 epochs (Cloud TPU documentation).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model, Norm, Optimizer, Schedule

from .recipes import RETHINKING

config = replace(
    RETHINKING,
    model=Model("inception_v3", "tf_slim", aux=True),
    norm=Norm(examples_per_group=128, decay=0.996),
    data=replace(RETHINKING.data, colour="tpu"),
    optimizer=Optimizer(
        "rmsprop",
        learning_rate=0.165 * 1024 / 256,
        momentum=0.9,
        decay=0.9,
        epsilon=1.0,
        l2=4e-5,
        average_decay=0.995,
    ),
    schedule=Schedule("exponential", decay_rate=0.94, decay_epochs=3, floor=1e-4),
    batch_size=1024,
    steps=213_000,
)
assumptions: dict[str, str] = {}  # each value is the release's own default
