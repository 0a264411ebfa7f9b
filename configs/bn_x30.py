"""BN-x30: BN-x5 at thirty times the learning rate.

    inception-jax train bn_x30

Source: arXiv:1502.03167, section 4.2.1
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: many asynchronous CPU workers (DistBelief). Here any number of devices; one
synchronous batch.
Published: 74.8 % top-1, single crop, after 6e6 steps; 72.2 % after 2.7e6 (figure 3).
Measured here: not yet run.
"""

from dataclasses import replace

from .bn_x5 import config as bn_x5
from .recipes import BN_PAPER_ASSUMPTIONS

config = replace(bn_x5, optimizer=replace(bn_x5.optimizer, learning_rate=30 * 0.0015))
assumptions = BN_PAPER_ASSUMPTIONS
