"""The words in which a network is written.

A network is data: an `Architecture` whose `layers` are end points in order, each one word or a
tuple of words in sequence. The words are frozen dataclasses, made by the short functions at the end
of this file, so that a table reads as the paper's figure does:

    Mixed_3b=concat(
        same(64, 1),
        (same(64, 1), same(64, 3)),
        (same(64, 1), same(96, 3), same(96, 3)),
        (avg(3), same(32, 1)))

All other code reads this data: `measure` computes shapes and counts, `nn.network` builds Flax
modules. Words compare and hash by value. They do not depend on whether the network is trained or
evaluated.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

Pair = tuple[int, int]
Shape = tuple[int, ...]
"""The shape of one example: (height, width, channels), or (features,)."""
Same = Literal["tensorflow", "symmetric"]
"""The meaning of "same" padding.

`tensorflow` puts the odd pixel of padding after the map; `symmetric` pads (k - 1) // 2 on both
sides (Caffe, PyTorch).
"""
Padding = Literal["same", "valid", "ceil"] | Same | Pair
"""The padding of a window.

`same` is the meaning in the architecture's unit, `valid` is none, `ceil` rounds the output size up
as Caffe does, and a pair is the number of zeros (before, after).
"""
Activation = Literal["relu", "sigmoid", "linear"]


@dataclass(frozen=True)
class Init:
    """The distribution of an initial kernel.

    Attributes:
      distribution: Name of the distribution. A truncated normal is cut at twice the standard
        deviation it is drawn with.
      scale: Standard deviation before the cut, if `fan` is None. Otherwise the variance after the
        cut times the fan.
      fan: The number of inputs of a value, the number of values that an input feeds, or the mean of
        the two.
    """

    distribution: Literal["truncated_normal", "normal", "uniform"]
    scale: float
    fan: Literal["fan_in", "fan_out", "fan_avg"] | None = None

    def __post_init__(self):
        if self.distribution == "uniform" and self.fan is None:
            raise ValueError(
                "a uniform distribution takes its width from a fan: give fan_in, fan_out or fan_avg"
            )


HE = Init("truncated_normal", 2.0, "fan_in")
"""arXiv:1502.01852. TF-Slim's variance scaling has a scale of 2.01."""
GLOROT = Init("uniform", 1.0, "fan_avg")


@dataclass(frozen=True)
class Unit:
    """The meaning of "a convolution" in one network.

    These are the facts in which releases of one figure differ.

    Attributes:
      norm: Whether batch normalisation stands between the convolution and its activation.
      bias: Whether every convolution has a bias, normalised or not. Before a norm it is redundant;
        Caffe's BN-Inception has it.
      activation: Activation after the norm.
      norm_scale: Whether gamma is learned. The Inceptions of TF-Slim and Keras fix it at 1.
      norm_epsilon: Number added to the variance.
      running_variance: `unbiased` with the m/(m-1) of algorithm 2 (TF, PyTorch), `biased` without
        it (Keras).
      same: The meaning of "same" padding. The output sizes agree at even inputs; the sampling grid
        differs by a pixel.
      count_include_pad: Whether average pools divide by the window instead of the real pixels in
        it.
      init: Initialiser of the kernels.
      linear_init: Initialiser of the kernels of `Linear`; None for `init`.
      bias_init: Initial value of the convolutions' biases.
    """

    norm: bool = True
    bias: bool = False
    activation: Activation = "relu"
    norm_scale: bool = True
    norm_epsilon: float = 1e-3
    running_variance: Literal["unbiased", "biased"] = "unbiased"
    same: Same = "tensorflow"
    count_include_pad: bool = False
    init: Init = HE
    linear_init: Init | None = None
    bias_init: float = 0.0

    def get_norm_and_bias(self, word: "Conv") -> tuple[bool, bool]:
        """Returns whether this convolution has a norm, and whether it has a bias."""
        return (
            self.norm if word.norm is None else word.norm,
            self.bias if word.bias is None else word.bias,
        )


@dataclass(frozen=True)
class Conv:
    """A convolution, then a norm, then an activation.

    A field that is None takes the value of the architecture's `Unit`.

    Attributes:
      filters: Number of output channels; None for the number of input channels.
      kernel: Height and width of the kernel.
      stride: Stride along the height and the width.
      padding: Padding of both axes.
      depth_multiplier: Number of depthwise kernels for each channel of a separable convolution,
        which a 1x1 convolution follows; None for an ordinary convolution.
      norm: Whether a norm follows.
      bias: Whether the convolution has a bias.
      activation: Activation after the norm.
      init: Initialiser of the kernel.
      gamma_init: Initial value of the norm's gamma.
      shrink: Whether a kernel that is larger than the map is cut to the map (TF-Slim's auxiliary
        heads on small images).
    """

    filters: int | None
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"
    depth_multiplier: int | None = None
    norm: bool | None = None
    bias: bool | None = None
    activation: Activation | None = None
    init: Init | None = None
    gamma_init: float = 1.0
    shrink: bool = False


@dataclass(frozen=True)
class Pool:
    """Max or average pooling over windows or, with `kernel=None`, over the whole map.

    Pooling over the whole map removes the axes of the map.

    Attributes:
      kind: Maximum or average.
      kernel: Height and width of the window; None for the whole map.
      stride: Stride along the height and the width.
      padding: Padding of both axes.
      pad_value: Value of explicit padding under a max pool; None for minus infinity. Keras pads
        with 0 before the first ReLU of its pre-activation ResNets, so that a border window of
        negative values returns 0.
      grid: Output size instead of a kernel: PyTorch's adaptive average, with windows of uneven
        size.
      shrink: Whether a kernel that is larger than the map is cut to the map.
    """

    kind: Literal["max", "avg"]
    kernel: Pair | None
    stride: Pair = (1, 1)
    padding: Padding = "same"
    pad_value: float | None = None
    grid: Pair | None = None
    shrink: bool = False


@dataclass(frozen=True)
class Linear:
    """Flattening, a matrix product, then a norm and an activation.

    Attributes:
      features: Number of outputs; None for the number of classes.
      norm: Whether a norm follows.
      bias: Whether the layer has a bias.
      activation: Activation after the norm; None for the unit's.
      init: Initialiser of the kernel; None for the unit's.
      bias_init: Initial value of the bias.
    """

    features: int | None = None
    norm: bool = False
    bias: bool = True
    activation: Activation | None = "linear"
    init: Init | None = None
    bias_init: float = 0.0


@dataclass(frozen=True)
class Softmax:
    """The softmax, which turns logits into probabilities."""


@dataclass(frozen=True)
class Dropout:
    """Dropout, which sets a fraction of the values to zero while training.

    A rate of None is the architecture's `dropout_rate`.
    """

    rate: float | None = None


@dataclass(frozen=True)
class NormAct:
    """Batch normalisation and an activation without a convolution.

    A pre-activation network ends with one. An activation of None is the unit's.
    """

    activation: Activation | None = None


@dataclass(frozen=True)
class LocalResponse:
    """Local response normalisation, with Caffe's form and constants.

    The output is x / (k + alpha / size * sum of x^2 over `size` neighbouring channels)^beta.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class Concat:
    """Branches on one input, concatenated along the channels in this order.

    Attributes:
      branches: The branches; each is one word or a tuple of words.
      figure: The drawing that the branches copy.
    """

    branches: tuple["Steps", ...]
    figure: str = ""


@dataclass(frozen=True)
class Residual:
    """A residual block: activation(shortcut(x) + scale * branch(x)).

    Attributes:
      branch: The words of the branch.
      shortcut: None for the identity, words for a projection, `"pad"` for option A of the ResNet
        paper (subsample by `stride`, fill the new channels with zeros).
      stride: Stride of the block, which `"pad"` subsamples by.
      scale: Factor of the branch.
      expansion_conv: Whether the branch ends with a linear 1x1 convolution, with bias and without
        norm, to the width of the input (Inception-ResNet's filter expansion). Its parameters are
        named `up`.
      preactivation: Whether one norm and activation come before the branch. A projection reads
        their output, an identity reads x.
      norm: Whether the sum is batch-normalised too (arXiv:1602.07261, section 3.2, leaves that out
        to save memory).
      activation: Activation after the sum; None for the unit's.
      figure: The drawing that the block copies.
    """

    branch: "Steps"
    shortcut: "Steps | Literal['pad'] | None" = None
    stride: Pair = (1, 1)
    scale: float = 1.0
    expansion_conv: bool = False
    preactivation: bool = False
    norm: bool = False
    activation: Activation | None = None
    figure: str = ""


@dataclass(frozen=True)
class Layer:
    """Any Flax module, which is called as module(x, train=train).

    Attributes:
      module: Import path of the class, "package.module:Class".
      fields: The module's fields as sorted pairs, so that a spec hashes.
      output_shape: (shape of one example, **fields) -> shape. `measure` cannot go past this row
        without it.
      multiply_adds: (shape of one example, **fields) -> count. The count is None (unknown) without
        it.
      parameters: The same for the number of parameters.
    """

    module: str
    fields: tuple[tuple[str, Any], ...] = ()
    output_shape: Callable[..., Shape] | None = None
    multiply_adds: Callable[..., int] | None = None
    parameters: Callable[..., int] | None = None


class UnknownWordError(ValueError):
    """An object in a table that is no `Word`."""


Word = (
    Conv | Pool | Linear | Softmax | Dropout | NormAct | LocalResponse | Concat | Residual | Layer
)
Steps = Word | tuple["Steps", ...]
Table = tuple[tuple[str, Steps], ...]


@dataclass(frozen=True)
class AuxHead:
    """An auxiliary classifier, which reads the end point `at` and exists only while training."""

    name: str
    at: str
    steps: Steps


@dataclass(frozen=True)
class Architecture:
    """One network: its table and the facts that hold for all of its rows.

    Attributes:
      name: Name of the network in the registry.
      variant: Name of the variant, such as "paper" or "torchvision".
      layers: (end point, words) in order. One row is the `Linear()` that gives the logits.
      source: Section or figure of the paper, or the release that the numbers come from.
      input_size: Height and width in pixels at which counts are quoted.
      unit: The meaning of "a convolution".
      dropout_rate: Rate of `Dropout()`.
      aux: Auxiliary classifiers.
      channels: Channels of the images of the paper's data.
      num_classes: Number of labels of the paper's data.
      class_offset: Number of classes before the first label in the released classifier (TF-Slim's
        background).
      paper: The arXiv number of the paper that introduces the network.
      notes: (end point, a difference between the source and this table).
    """

    name: str
    variant: str
    layers: Table
    source: str
    input_size: int = 224
    unit: Unit = Unit()
    dropout_rate: float = 0.0
    aux: tuple[AuxHead, ...] = ()
    channels: int = 3
    num_classes: int = 1000
    class_offset: int = 0
    paper: str = ""
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def logits_row(self) -> str | None:
        """Returns the name of the row that gives the logits."""
        heads = [name for name, steps in self.layers if any(map(_is_classifier, flatten(steps)))]
        return heads[-1] if heads else None

    @property
    def embedding(self) -> "Architecture":
        """Returns the table without the classifier: its output is the classifier's input."""
        layers = tuple(
            (name, _remove_classifier(steps))
            for name, steps in self.layers
            if not steps or _remove_classifier(steps)
        )
        aux = tuple(replace(head, steps=_remove_classifier(head.steps)) for head in self.aux)
        return replace(self, layers=layers, aux=aux)

    def truncate(self, end_points: Sequence[str]) -> "Architecture":
        """Returns the table up to the deepest of these end points, with the remaining heads.

        Raises:
          ValueError: A name is neither a row nor a head.
        """
        names = [name for name, _ in self.layers]
        places = {name: name for name in names} | {head.name: head.at for head in self.aux}
        if unknown := set(end_points) - set(places):
            hint = "; auxiliary heads are end points while training with aux=True"
            raise ValueError(
                f"{self.name} has no end point {', '.join(sorted(unknown))}; "
                f"it has {', '.join(places)}{'' if self.aux else hint}"
            )
        last = max((names.index(places[name]) for name in end_points), default=-1)
        layers = self.layers[: last + 1]
        aux = tuple(head for head in self.aux if head.at in dict(layers))
        return replace(self, layers=layers, aux=aux)


def _is_classifier(word: Word) -> bool:
    return isinstance(word, Linear) and word.features is None


def _remove_classifier(steps: Steps) -> Steps:
    return tuple(
        word for word in flatten(steps) if not (_is_classifier(word) or isinstance(word, Softmax))
    )


def name_words(steps: Steps) -> Iterator[tuple[str, Word]]:
    """Yields the words of one sequence with the names of their parameters.

    The names are `conv_<h>x<w>`, then `conv_<h>x<w>_2`, and so on.

    `Concat` and `Residual` add no level to the names (their parts are `branch_<i>`, `shortcut`,
    `up`), so a sequence holds at most one of them.

    Raises:
      ValueError: The sequence has a second concat or residual.
    """
    seen: Counter[str] = Counter()
    for word in flatten(steps):
        if isinstance(word, Conv):
            name = f"conv_{word.kernel[0]}x{word.kernel[1]}"
        elif isinstance(word, Concat | Residual):
            name = "branches"
            if seen[name]:
                raise ValueError(
                    "one sequence has two words of the kinds concat and residual, whose branches "
                    "would share names: give each an end point (a row of the table) of its own"
                )
        else:
            name = get_kind(word)
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), word


def get_kind(word: Word) -> str:
    """Returns the kind of a word, which names its row in a table and its parameters."""
    if isinstance(word, Pool):
        return "pool"
    return "norm" if isinstance(word, NormAct) else type(word).__name__.lower()


def flatten(steps: Steps) -> Iterator[Word]:
    """Yields the words of a sequence in order, without looking into concats and residuals."""
    if isinstance(steps, tuple):
        for step in steps:
            yield from flatten(step)
    else:
        yield steps


def iterate_words(part: Any) -> Iterator[Any]:
    """Yields all words of a part of a table, also those inside other words."""
    if isinstance(part, tuple):
        for item in part:
            yield from iterate_words(item)
    elif is_dataclass(part):
        yield part
        for field in fields(part):
            yield from iterate_words(getattr(part, field.name))


def rewrite_words(part: Any, change: Callable[[Any], Any]) -> Any:
    """Returns a part of a table with `change` applied to each word, inner words first."""
    if isinstance(part, tuple):
        return tuple(rewrite_words(item, change) for item in part)
    if not is_dataclass(part):
        return part
    changes = {
        field.name: rewrite_words(getattr(part, field.name), change) for field in fields(part)
    }
    return change(replace(part, **changes))  # type: ignore


# The short forms in which tables are written.


def make_pair(value: int | Pair) -> Pair:
    """Returns (value, value) for a number, and a pair unchanged."""
    return (value, value) if isinstance(value, int) else value


def conv(
    filters: int | None,
    kernel: int | Pair,
    stride: int | Pair = 1,
    padding: Padding = "same",
    **unit: Any,
) -> Conv:
    """Returns a convolution; `unit` sets the other fields of `Conv`."""
    return Conv(filters, make_pair(kernel), make_pair(stride), padding, **unit)


def same(filters: int | None, kernel: int | Pair, stride: int | Pair = 1, **unit: Any) -> Conv:
    """Returns a convolution with "same" padding."""
    return conv(filters, kernel, stride, "same", **unit)


def valid(filters: int | None, kernel: int | Pair, stride: int | Pair = 1, **unit: Any) -> Conv:
    """Returns a convolution without padding."""
    return conv(filters, kernel, stride, "valid", **unit)


def max_(
    kernel: int | Pair,
    stride: int | Pair = 1,
    padding: Padding = "same",
    pad_value: float | None = None,
) -> Pool:
    """Returns a max pool over windows."""
    return Pool("max", make_pair(kernel), make_pair(stride), padding, pad_value)


def avg(
    kernel: int | Pair, stride: int | Pair = 1, padding: Padding = "same", shrink: bool = False
) -> Pool:
    """Returns an average pool over windows."""
    return Pool("avg", make_pair(kernel), make_pair(stride), padding, shrink=shrink)


def adaptive_avg(grid: int | Pair) -> Pool:
    """Returns PyTorch's adaptive average pool with an output of `grid` positions."""
    return Pool("avg", None, grid=make_pair(grid))


def global_avg() -> Pool:
    """Returns an average over the whole map."""
    return Pool("avg", None)


def concat(*branches: Steps, figure: str = "") -> Concat:
    """Returns branches on one input, concatenated along the channels."""
    return Concat(branches, figure)


def layer(
    module: str, *, output_shape=None, multiply_adds=None, parameters=None, **fields: Any
) -> Layer:
    """Returns a Flax module as a word; `fields` are the fields of the module."""
    return Layer(module, tuple(sorted(fields.items())), output_shape, multiply_adds, parameters)


def table(**rows: Steps) -> Table:
    """Returns the end points in order.

    For example `table(Conv2d_1a_7x7=same(64, 7, 2), MaxPool_2a_3x3=max_(3, 2), ...)`.
    """
    return tuple(rows.items())
