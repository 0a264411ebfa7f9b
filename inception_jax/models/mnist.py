"""The MNIST network of "Batch Normalization" (Ioffe & Szegedy 2015, arXiv:1502.03167), section 4.1: three layers of 100 sigmoids."""

from inception_jax.spec.vocabulary import Architecture, Init, Linear, Softmax, Unit, table

SMALL_GAUSSIAN = Unit(init=Init("normal", 0.1))
"""The paper says "small random Gaussian values" without a deviation; 0.1 is ours."""


def network(name: str, hidden: Linear) -> Architecture:
    layers = table(
        Hidden_1=hidden, Hidden_2=hidden, Hidden_3=hidden, Logits=Linear(), Predictions=Softmax()
    )
    return Architecture(
        name,
        "paper",
        layers,
        "arXiv:1502.03167, section 4.1",
        28,
        SMALL_GAUSSIAN,
        channels=1,
        num_classes=10,
        paper="arXiv:1502.03167",
    )


def baseline() -> Architecture:
    return network("mnist", Linear(100, activation="sigmoid"))


def normalised() -> Architecture:
    """Beta takes the place of the hidden biases."""
    return network("mnist_bn", Linear(100, norm=True, bias=False, activation="sigmoid"))
