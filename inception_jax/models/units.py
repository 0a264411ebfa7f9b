"""The units that tables of different papers share: what each release means by "a convolution".

They are the rows D14-D16, D41, D45 and D46 of docs/which_inception.md. A table takes the unit of
its variant and changes single facts of it.
"""

from inception_jax.spec.vocabulary import GLOROT, Init, Unit

SLIM_SCALING = Init("truncated_normal", 1.3 * 2.0 * 0.87962566103423978**2, "fan_in")
"""TF-Slim's `variance_scaling_initializer`.

It draws with a standard deviation of sqrt(1.3 * 2 / fan_in) and cuts at two standard deviations,
which leaves 0.88 of the deviation.
"""
CAFFE_XAVIER = Init("uniform", 1.0, "fan_in")

PAPER = Unit()
"""Algorithms 1 and 2 of arXiv:1502.03167, with TF-Slim's epsilon.

There is no bias before a norm, gamma and beta are learned, and the variance is unbiased.
"""
TF_SLIM = Unit(norm_scale=False, init=SLIM_SCALING)
KERAS = Unit(norm_scale=False, running_variance="biased", init=GLOROT)
TORCHVISION = Unit(count_include_pad=True, init=Init("normal", 0.1))
"""torchvision with `init_weights=True`.

The normal is truncated at +-2 in absolute units, which is 20 standard deviations and thus no cut.
timm's Inception-v3 has it too.
"""
PYTORCH = Unit(init=Init("uniform", 1 / 3, "fan_in"))
"""The default of PyTorch's convolutions and linear layers: uniform within 1 / sqrt(fan_in)."""


def truncated_normal(stddev: float) -> Init:
    """Returns TensorFlow's `truncated_normal_initializer`."""
    return Init("truncated_normal", stddev)
