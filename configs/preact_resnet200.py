"""ResNet-200 with pre-activation, 90 epochs on ImageNet.

    inception-jax train preact_resnet200

Source: arXiv:1603.05027, and facebook/fb.resnet.torch
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: eight GPUs.
Published: 21.66 % top-1, 5.79 % top-5 error, single crop (fb.resnet.torch).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .recipes import RESNET, RESNET_ASSUMPTIONS

config = replace(RESNET, model=Model("preact_resnet200", "facebook"))
assumptions = RESNET_ASSUMPTIONS
