"""Three layers of 100 sigmoids on MNIST, without batch normalisation: figure 1 of the paper.

    inception-jax train mnist

Source: arXiv:1502.03167, section 4.1
Data: MNIST (`inception-jax data prepare mnist`), 60,000 training and 10,000 test images; or the
digits that ship with the package.
Hardware: one CPU core.
Published: a curve alone (figure 1a).
Measured here: not yet run on MNIST; on the digits see docs/reproductions.md.
"""

from inception_jax.config import Data, Experiment, Model, Norm, Optimizer

config = Experiment(
    model=Model("mnist"),
    norm=Norm(decay=0.99),
    data=Data("mnist", image_size=28, binarize=True),
    optimizer=Optimizer("momentum", learning_rate=0.1, momentum=0.0),
    batch_size=60,
    steps=50_000,
    evaluate_every_epochs=1,
)
assumptions = {
    "optimizer.learning_rate": "not printed; 0.1",
    "optimizer.momentum": "the optimizer is not printed; plain SGD",
    "data.binarize": "binary images are printed, the threshold is not; a half",
    "norm.decay": "population statistics are meant; a short moving average follows them",
}
