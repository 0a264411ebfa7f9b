"""ResNet-50, 90 epochs on ImageNet.

    inception-jax train resnet50

Source: arXiv:1512.03385, and facebook/fb.resnet.torch
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: eight GPUs.
Published: 24.01 % top-1, 7.02 % top-5 error, single crop (fb.resnet.torch).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .recipes import RESNET, RESNET_ASSUMPTIONS

config = replace(RESNET, model=Model("resnet50"))
assumptions = RESNET_ASSUMPTIONS
