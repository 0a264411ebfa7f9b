"""BN-x5-Sigmoid: BN-x5 with sigmoids instead of ReLUs.

    inception-jax train bn_x5_sigmoid

Source: arXiv:1502.03167, section 4.2.1
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: many asynchronous CPU workers (DistBelief). Here any number of devices; one
synchronous batch.
Published: 69.8 % top-1 at most, single crop; without batch normalisation it never left chance
(figure 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .bn_x5 import assumptions as of_bn_x5
from .bn_x5 import config as bn_x5

config = replace(bn_x5, model=Model("bn_x5_sigmoid"))
assumptions = of_bn_x5
