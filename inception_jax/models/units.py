"""What each release means by "a convolution": the units that tables of different papers share.

The rows D14-D16, D41, D45 and D46 of docs/which_inception.md. A table takes the unit of its variant, and changes what
is its own.
"""

from inception_jax.spec.vocabulary import GLOROT, Init, Unit

SLIM_SCALING = Init("truncated_normal", 1.3 * 2.0 * 0.87962566103423978**2, "fan_in")
"""`variance_scaling_initializer`: drawn at sqrt(1.3 * 2 / fan_in) and cut at two deviations, which leaves 0.88 of it."""
CAFFE_XAVIER = Init("uniform", 1.0, "fan_in")

PAPER = Unit()
"""Algorithms 1 and 2 of arXiv:1502.03167: no bias before a norm, gamma and beta, unbiased variance. Epsilon as TF-Slim has it."""
TF_SLIM = Unit(norm_scale=False, init=SLIM_SCALING)
KERAS = Unit(norm_scale=False, running_variance="biased", init=GLOROT)
TORCHVISION = Unit(count_include_pad=True, init=Init("normal", 0.1))
"""`init_weights=True`: a normal truncated at +-2 in absolute units, which is 20 deviations: not at all. timm's Inception-v3 has it too."""
PYTORCH = Unit(init=Init("uniform", 1 / 3, "fan_in"))
"""What PyTorch's convolutions and linear layers begin with where nobody says otherwise: uniform within 1 / sqrt(fan_in)."""


def truncated(deviation: float) -> Init:
    """TensorFlow's `truncated_normal_initializer`."""
    return Init("truncated_normal", deviation)
