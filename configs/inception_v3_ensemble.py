"""Four Inception-v3 from other seeds, averaged.

    inception-jax train inception_v3_ensemble      # the four in turn
    inception-jax train inception_v3_ensemble:1    # one of them, :1 to :4
    inception-jax evaluate runs/inception_v3_ensemble --crops 144

Source: arXiv:1512.00567, section 10, table 5
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: 50 replicas, each with a Kepler GPU. Here any number of devices that divides
the batch.
Published: 17.2 % top-1, 3.58 % top-5 error, 144 crops (3.58 % is said to be of the test set, and
3.46 % of the validation images).
Measured here: not yet run.
"""

from dataclasses import replace

from .inception_v3 import config as inception_v3
from .recipes import RETHINKING_ASSUMPTIONS

members = tuple(replace(inception_v3, seed=seed) for seed in range(4))
assumptions = RETHINKING_ASSUMPTIONS | {"seed": "in what the four differ is not printed"}
