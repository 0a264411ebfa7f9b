"""Inception without batch normalisation: the baseline of the batch normalisation paper.

    inception-jax train inception

Source: arXiv:1502.03167, section 4.2
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: many asynchronous CPU workers (DistBelief). Here any number of devices; one
synchronous batch.
Published: 72.2 % top-1, single crop, after 31.0e6 steps (figure 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model, Schedule

from .recipes import BN_PAPER, BN_PAPER_ASSUMPTIONS

config = replace(
    BN_PAPER,
    model=Model("inception"),
    data=replace(BN_PAPER.data, colour="slim", shuffle_block=32),
    optimizer=replace(BN_PAPER.optimizer, learning_rate=0.0015, l2=2e-4),
    schedule=Schedule("exponential", decay_rate=0.96, decay_epochs=8),
    steps=31_000_000,
)
assumptions = BN_PAPER_ASSUMPTIONS | {
    "data.shuffle_block": (
        "the shards of its data are not described; 32 keeps the same examples together in each "
        "mini-batch"
    ),
}
