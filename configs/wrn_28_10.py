"""WRN-28-10 on CIFAR-10.

    inception-jax train wrn_28_10

Source: arXiv:1605.07146, sections 2 and 3
Data: CIFAR-10 (`inception-jax data prepare cifar10`), 50,000 training and 10,000 test images.
Hardware: one GPU.
Published: 4.00 % error, median of five (table 5).
Measured here: not yet run.
"""

from .recipes import WIDE, WIDE_ASSUMPTIONS

config = WIDE
assumptions = WIDE_ASSUMPTIONS
