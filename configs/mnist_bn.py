"""Three layers of 100 sigmoids on MNIST, with batch normalisation: figure 1 of the paper.

    inception-jax train mnist_bn

Source: arXiv:1502.03167, section 4.1
Data: MNIST (`inception-jax data prepare mnist`), 60,000 training and 10,000 test images; or the
digits that ship with the package.
Hardware: one CPU core.
Published: a curve alone (figure 1a).
Measured here: not yet run on MNIST; on the digits see docs/reproductions.md.
"""

from dataclasses import replace

from inception_jax.config import Model

from .mnist import assumptions as of_mnist
from .mnist import config as plain

config = replace(plain, model=Model("mnist_bn"))
assumptions = of_mnist
