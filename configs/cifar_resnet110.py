"""ResNet-110 on CIFAR-10.

    inception-jax train cifar_resnet110

Source: arXiv:1512.03385, section 4.2
Data: CIFAR-10 (`inception-jax data prepare cifar10`), 50,000 training and 10,000 test images.
Hardware: two GPUs.
Published: 6.43 % error, the best of five; 6.61 +- 0.16 (table 6).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model, Optimizer, Schedule

from .recipes import WIDE

config = replace(
    WIDE,
    model=Model("cifar_resnet110"),
    data=replace(WIDE.data, pad_with="zeros"),
    optimizer=Optimizer("momentum", learning_rate=0.1, momentum=0.9, l2=1e-4),
    schedule=Schedule(
        "piecewise",
        decay_rate=0.1,
        at_epochs=(32_000 * 128 / 50_000, 48_000 * 128 / 50_000),
        warmup_epochs=1,
    ),
    steps=64_000,
)
assumptions = {
    "schedule.warmup_epochs": (
        "0.01 until the training error is below 80 % (about 400 steps) in the paper; a linear rise "
        "over 391 here"
    ),
    "data.scaling": (
        "the mean of each pixel is subtracted in the paper; mean and deviation of each channel here"
    ),
}
