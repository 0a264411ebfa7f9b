"""WRN-28-10 on CIFAR-100.

    inception-jax train wrn_28_10_cifar100

Source: arXiv:1605.07146, sections 2 and 3
Data: CIFAR-100 (`inception-jax data prepare cifar100`), 50,000 training and 10,000 test images.
Hardware: one GPU.
Published: 19.25 % error, median of five (table 5).
Measured here: not yet run.
"""

from dataclasses import replace

from .recipes import WIDE, WIDE_ASSUMPTIONS

config = replace(WIDE, data=replace(WIDE.data, name="cifar100", scaling="cifar100"))
assumptions = WIDE_ASSUMPTIONS
