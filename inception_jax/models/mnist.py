"""The MNIST network of "Batch Normalization" (arXiv:1502.03167), section 4.1.

It has three layers of 100 sigmoids.
"""

from inception_jax.spec.vocabulary import Architecture, Init, Linear, Softmax, Unit, table

SMALL_GAUSSIAN = Unit(init=Init("normal", 0.1))
"""The paper gives "small random Gaussian values" without a standard deviation; 0.1 is ours."""


def build_architecture(name: str, hidden: Linear) -> Architecture:
    """Builds the network with `hidden` for each of its three hidden layers."""
    layers = table(
        Hidden_1=hidden,  # 100
        Hidden_2=hidden,  # 100
        Hidden_3=hidden,  # 100
        Logits=Linear(),  # 10
        Predictions=Softmax(),  # 10
    )
    return Architecture(
        name, "paper", layers, "arXiv:1502.03167, section 4.1", 28, SMALL_GAUSSIAN, channels=1,
        num_classes=10, paper="arXiv:1502.03167",
    )  # fmt: skip


def baseline() -> Architecture:
    """Builds the network without batch norm."""
    return build_architecture("mnist", Linear(100, activation="sigmoid"))


def batch_norm() -> Architecture:
    """Builds the network with batch norm, whose beta replaces the biases of the hidden layers."""
    hidden = Linear(100, norm=True, bias=False, activation="sigmoid")
    return build_architecture("mnist_bn", hidden)
