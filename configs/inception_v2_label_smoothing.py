"""The ladder of table 3, third rung: + label smoothing.

    inception-jax train inception_v2_label_smoothing

Source: arXiv:1512.00567, sections 7 to 10
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: 50 replicas, each with a Kepler GPU. Here any number of devices that divides
the batch.
Published: 22.8 % top-1, 6.1 % top-5 error, single crop, on the 48,238 images that are not
blacklisted (table 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .recipes import RETHINKING, RETHINKING_ASSUMPTIONS

config = replace(RETHINKING, model=Model("inception_v2_rethinking", "stem_7x7", aux=True))
assumptions = RETHINKING_ASSUMPTIONS
