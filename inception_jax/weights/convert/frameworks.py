"""What a framework calls the arrays of a layer, and in which order it keeps their axes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Framework:
    """
    Attributes:
      joint: between a layer's name and an array's.
      kernel, bias: of a convolution or a linear layer.
      gamma, beta, mean, variance: of a norm.
      depthwise, pointwise: the two kernels of a separable convolution.
      outputs_first: kernels are [out, in, h, w] and matrices [out, in]; what they read flat has its channels first.
      ignored: a pattern of arrays that files hold beside the network's.
    """

    joint: str
    kernel: str
    bias: str
    gamma: str
    beta: str
    mean: str
    variance: str
    depthwise: str = ""
    pointwise: str = ""
    outputs_first: bool = False
    ignored: str = "(?!)"


TORCH = Framework(
    ".",
    "weight",
    "bias",
    "weight",
    "bias",
    "running_mean",
    "running_var",
    outputs_first=True,
    ignored=r".*\bnum_batches_tracked",
)
TF_SLIM = Framework(
    "/", "weights", "biases", "gamma", "beta", "moving_mean", "moving_variance",
    "depthwise_weights", "pointwise_weights",
    ignored=r"global_step|.*/(Momentum|RMSProp|RMSProp_1|Adam|Adam_1|ExponentialMovingAverage)",
)  # fmt: skip
KERAS = Framework("/", "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
CAFFE = Framework("/", "weights", "biases", "gamma", "beta", "mean", "variance", outputs_first=True)
"""Caffe's blobs have no names: these are what `read` gives them."""
