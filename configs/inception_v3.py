"""Inception-v3 as released, by the recipe of its paper.

    inception-jax train inception_v3

Source: arXiv:1512.00567, sections 7 to 10
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: 50 replicas, each with a Kepler GPU. Here any number of devices that divides
the batch.
Published: 21.2 % top-1, 5.6 % top-5 error; the release: 78.0 % top-1, 93.9 % top-5 on all 50,000,
single crop.
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .recipes import RETHINKING, RETHINKING_ASSUMPTIONS

config = replace(RETHINKING, model=Model("inception_v3", aux=True))
assumptions = RETHINKING_ASSUMPTIONS
