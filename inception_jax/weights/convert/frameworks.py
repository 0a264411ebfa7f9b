"""The names of a layer's arrays in each framework, and the order of their axes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Framework:
    """The conventions of a framework.

    Attributes:
      joint: Text between the names of a layer and of an array.
      kernel: Name of the kernel of a convolution or a linear layer.
      bias: Name of its bias.
      gamma: Name of a norm's gamma.
      beta: Name of a norm's beta.
      mean: Name of a norm's running mean.
      variance: Name of a norm's running variance.
      depthwise: Name of the first kernel of a separable convolution.
      pointwise: Name of its second kernel.
      outputs_first: Whether kernels are [out, in, h, w] and matrices [out, in], and flattened
        inputs have their channels first.
      ignored: Pattern of arrays in files that are not the network's.
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
