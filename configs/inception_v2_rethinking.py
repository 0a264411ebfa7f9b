"""The ladder of table 3, first rung: Inception-v2 under SGD with momentum.

    inception-jax train inception_v2_rethinking

Source: arXiv:1512.00567, sections 7 to 10
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: 50 replicas, each with a Kepler GPU. Here any number of devices that divides
the batch.
Published: 23.4 % top-1 error, single crop, on the 48,238 images that are not blacklisted (table 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model, Optimizer

from .recipes import RETHINKING, RETHINKING_ASSUMPTIONS

config = replace(
    RETHINKING,
    model=Model("inception_v2_rethinking", "stem_7x7", aux=True),
    optimizer=Optimizer(
        "momentum", learning_rate=0.045, momentum=0.9, l2=4e-5, clip_norm=2.0, average_decay=0.9999
    ),
    objective=replace(RETHINKING.objective, label_smoothing=0.0),
)
assumptions = RETHINKING_ASSUMPTIONS | {"optimizer.learning_rate": "printed for RMSProp alone"}
