"""BN-Baseline: Inception with batch normalisation before each nonlinearity, otherwise unchanged.

    inception-jax train bn_baseline

Source: arXiv:1502.03167, section 4.2
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: many asynchronous CPU workers (DistBelief). Here any number of devices; one
synchronous batch.
Published: 72.7 % top-1 at most, single crop; 72.2 % after 13.3e6 steps (figure 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .inception import assumptions as of_inception
from .inception import config as inception

config = replace(inception, model=Model("bn_baseline"))
assumptions = of_inception | {"steps": "the paper's curve goes on as long as Inception's"}
