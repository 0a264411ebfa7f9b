"""One Inception-v4 and three Inception-ResNet-v2, averaged.

    inception-jax train inception_v4_ensemble      # the four in turn
    inception-jax train inception_v4_ensemble:1    # one of them, :1 to :4
    inception-jax evaluate runs/inception_v4_ensemble --crops 144

Source: arXiv:1602.07261, section 5, table 5
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: 20 replicas, each with a Kepler GPU.
Published: 16.5 % top-1, 3.1 % top-5 error, 144 crops (16.4 % in the proceedings of AAAI); 3.08 %
top-5 on the test set.
Measured here: not yet run.
"""

from dataclasses import replace

from .inception_resnet_v2 import config as inception_resnet_v2
from .inception_v4 import assumptions as of_inception_v4
from .inception_v4 import config as inception_v4

members = (inception_v4, *(replace(inception_resnet_v2, seed=seed) for seed in range(3)))
assumptions = of_inception_v4 | {"seed": "in what the three differ is not printed"}
