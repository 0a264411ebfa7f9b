"""Inception-ResNet-v1.

    inception-jax train inception_resnet_v1

Source: arXiv:1602.07261, section 4
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: 20 replicas, each with a Kepler GPU.
Published: 21.3 % top-1, 5.5 % top-5 error; single crop, on the images that are not blacklisted.
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .recipes import RETHINKING, RETHINKING_ASSUMPTIONS

config = replace(RETHINKING, model=Model("inception_resnet_v1"), batch_size=640, epochs=160)
assumptions = RETHINKING_ASSUMPTIONS | {
    "batch_size": "20 replicas are printed, their batches are not; 32 each, as in the paper before",
    "epochs": "read off the curves of figures 21 to 24",
    "objective.label_smoothing": "not in the text; the paper before has it",
}
