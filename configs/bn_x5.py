"""BN-x5: batch normalisation and all seven changes, at five times the learning rate.

    inception-jax train bn_x5

Source: arXiv:1502.03167, section 4.2.1
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: many asynchronous CPU workers (DistBelief). Here any number of devices; one
synchronous batch.
Published: 73.0 % top-1 at most, single crop; 72.2 % after 2.1e6 steps, 14 times fewer than
Inception (figure 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .inception import config as inception
from .recipes import BN_PAPER_ASSUMPTIONS

# Each line is one of the seven; give a line Inception's value and that one is undone.
config = replace(
    inception,
    model=Model(
        "bn_baseline", dropout_rate=0.0, local_response_norm=False
    ),  # 2, no dropout; 5, no response normalisation
    data=replace(
        inception.data, shuffle_block=1, colour="slim_fast"
    ),  # 6, shuffled thoroughly; 7, less distortion
    optimizer=replace(
        inception.optimizer, learning_rate=5 * 0.0015, l2=2e-4 / 5
    ),  # 1, a higher rate; 3, a fifth of the L2
    schedule=replace(inception.schedule, decay_epochs=8 / 6),  # 4, six times faster decay
    steps=6_000_000,
)
assumptions = BN_PAPER_ASSUMPTIONS | {
    "steps": "the length of the run is not printed; 6e6 is where BN-x30 peaks"
}
