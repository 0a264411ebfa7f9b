"""The words in which a network is written.

A network is data: an `Architecture` whose `layers` are end points in order, each one word or a tuple of words in
sequence. The words are frozen dataclasses, made by the short functions at the end of this file, so that a table reads
as the paper's figure does:

    Mixed_3b=concat(
        same(64, 1),
        (same(64, 1), same(64, 3)),
        (same(64, 1), same(96, 3), same(96, 3)),
        (avg(3), same(32, 1)))

Everything else asks this data: `measure` for shapes and counts, `nn.network` for Flax modules. Words compare and hash
by value, and none of them knows whether the network is being trained or evaluated.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

Pair = tuple[int, int]
Shape = tuple[int, ...]
"""Of one example: (height, width, channels), or (features,)."""
Same = Literal["tensorflow", "symmetric"]
"""`tensorflow` puts the odd pixel of padding after, `symmetric` pads (k - 1) // 2 on both sides (Caffe, PyTorch)."""
Padding = Literal["same", "valid", "ceil"] | Same | Pair
"""`same` as the architecture's unit says, `valid` none, `ceil` Caffe's rounding up, or (before, after) zeros."""
Activation = Literal["relu", "sigmoid", "linear"]


@dataclass(frozen=True)
class Init:
    """The law that a kernel is drawn from.

    Attributes:
      law: a truncated normal is cut at twice the deviation that it was drawn with.
      scale: without `fan` that deviation; with it, the variance of the kernel (after the cut) times the fan.
      fan: the inputs of a value, the values that an input feeds, or the mean of the two.
    """

    distribution: Literal["truncated_normal", "normal", "uniform"]
    scale: float
    fan: Literal["fan_in", "fan_out", "fan_avg"] | None = None

    def __post_init__(self):
        if self.distribution == "uniform" and self.fan is None:
            raise ValueError(
                "a uniform law takes its width from a fan: give fan_in, fan_out or fan_avg"
            )


HE = Init(
    "truncated_normal", 2.0, "fan_in"
)  # arXiv:1502.01852; what TF-Slim calls variance scaling has a scale of 2.01
GLOROT = Init("uniform", 1.0, "fan_avg")


@dataclass(frozen=True)
class Unit:
    """What "a convolution" stands for in one network: the facts in which releases of one figure differ.

    Attributes:
      norm: batch-normalise between the convolution and its activation.
      bias: give every convolution a bias, normalised or not (redundant before a norm; Caffe's BN-Inception has it).
      activation: after the norm.
      norm_scale: learn gamma; TF-Slim and Keras Inceptions fix it at 1.
      norm_epsilon: added to the variance.
      running_variance: kept with the m/(m-1) of algorithm 2 (TF, PyTorch), or without (Keras).
      same: what "same" padding means. The output sizes agree at even inputs; the sampling grid is shifted by a pixel.
      count_include_pad: average pools divide by the window, not by the real pixels in it.
      init: of the kernels; `linear_init` of those of `Linear`, where another.
      bias_init: what the convolutions' biases begin at.
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

    def of(self, word: "Conv") -> tuple[bool, bool]:
        """Whether this convolution has (a norm, a bias)."""
        return (
            self.norm if word.norm is None else word.norm,
            self.bias if word.bias is None else word.bias,
        )


@dataclass(frozen=True)
class Conv:
    """Convolution, then norm, then activation. A field that is None is as the architecture's `Unit` says.

    Attributes:
      filters: output channels; None for as many as the input has.
      depth_multiplier: when set, a separable convolution: so many depthwise kernels per channel, then 1x1.
      gamma_init: what the norm's gamma begins at.
      shrink: cut a kernel that is larger than the map to the map (TF-Slim's auxiliary heads on small images).
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
    """Max or average pooling; `kernel=None` averages (or takes the maximum of) the whole map and drops its axes.

    Attributes:
      grid: instead of a kernel, the size of what comes out: PyTorch's adaptive average, windows of uneven size.
      shrink: cut a kernel that is larger than the map to the map.
      pad_value: what explicit padding holds under a max pool; None for minus infinity. Keras pads with 0 before the
        first ReLU of its pre-activation ResNets, so that a border window of negative values returns 0.
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
    """Flatten, matrix product, then norm and activation (None for the unit's). `features=None` is the number of classes."""

    features: int | None = None
    norm: bool = False
    bias: bool = True
    activation: Activation | None = "linear"
    init: Init | None = None
    bias_init: float = 0.0


@dataclass(frozen=True)
class Softmax:
    """Logits to probabilities."""


@dataclass(frozen=True)
class Dropout:
    """Zero a fraction `rate` while training; None for the architecture's `dropout_rate`."""

    rate: float | None = None


@dataclass(frozen=True)
class NormAct:
    """Batch normalisation and an activation (None for the unit's) on their own: the end of a pre-activation network."""

    activation: Activation | None = None


@dataclass(frozen=True)
class LocalResponse:
    """x / (k + alpha / size * sum of x^2 over `size` neighbouring channels)^beta; Caffe's form and constants."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class Concat:
    """Branches on one input, joined along the channels in this order; `figure` is the drawing that it copies."""

    branches: tuple["Steps", ...]
    figure: str = ""


@dataclass(frozen=True)
class Residual:
    """activation(shortcut(x) + scale * branch(x)).

    Attributes:
      shortcut: None for the identity, words for a projection, `"pad"` for option A of the ResNet paper (subsample by
        `stride`, fill the new channels with zeros).
      up: end the branch with a linear 1x1 convolution, with bias and without norm, to the input's width
        (Inception-ResNet's filter expansion).
      preactivation: one norm and activation before the branch; a projection reads it too, an identity reads x.
      norm: batch-normalise the sum as well (arXiv:1602.07261, section 3.2, leaves that out to save memory).
      activation: after the sum; None for the unit's.
      figure: the drawing that it copies.
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
    """The open word: any Flax module, `module` being `"package.module:Class"`, called as module(x, train=train).

    Attributes:
      fields: the module's fields as sorted pairs, so that a spec hashes.
      output_shape: (shape of one example, **fields) -> shape; without it `measure` cannot go past this row.
      multiply_adds, parameters: the same for the counts; without them `measure` says "unknown" (None).
    """

    module: str
    fields: tuple[tuple[str, Any], ...] = ()
    output_shape: Callable[..., Shape] | None = None
    multiply_adds: Callable[..., int] | None = None
    parameters: Callable[..., int] | None = None


class UnknownWordError(ValueError):
    """Something in a table that is none of the words below."""


Word = (
    Conv | Pool | Linear | Softmax | Dropout | NormAct | LocalResponse | Concat | Residual | Layer
)
Steps = Word | tuple["Steps", ...]
Table = tuple[tuple[str, Steps], ...]


@dataclass(frozen=True)
class AuxHead:
    """A classifier on the side, fed by the end point `at`; it exists while training only."""

    name: str
    at: str
    steps: Steps


@dataclass(frozen=True)
class Architecture:
    """One network: its table, and the facts that hold for all of its rows.

    Attributes:
      layers: (end point, words) in order; one row is the `Linear()` that gives the logits.
      input_size: height and width, in pixels, that counts are quoted at.
      channels, num_classes: of the images and labels of the paper's data.
      dropout_rate: what `Dropout()` stands for.
      class_offset: classes that the released classifier has in front of the first label (TF-Slim's background).
      paper: the arXiv number of the paper that the network is from.
      source: its section or figure, or the release that the numbers come from.
      notes: (end point, what the source has there that this table has not).
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
    def logits(self) -> str | None:
        """The row that gives the logits."""
        heads = [name for name, steps in self.layers if any(map(_classifies, flatten(steps)))]
        return heads[-1] if heads else None

    @property
    def embedding(self) -> "Architecture":
        """The table without what classifies: it ends in the features that the classifier would read."""
        layers = tuple(
            (name, _features(steps)) for name, steps in self.layers if not steps or _features(steps)
        )
        return replace(
            self,
            layers=layers,
            aux=tuple(replace(head, steps=_features(head.steps)) for head in self.aux),
        )

    def up_to(self, end_points: Sequence[str]) -> "Architecture":
        """The table up to the deepest of these end points, with the auxiliary heads on what is left.

        Raises:
          ValueError: a name that is neither a row nor a head.
        """
        names = [name for name, _ in self.layers]
        places = {name: name for name in names} | {head.name: head.at for head in self.aux}
        if unknown := set(end_points) - set(places):
            heads = (
                "" if self.aux else "; auxiliary heads are end points while training with aux=True"
            )
            raise ValueError(
                f"{self.name} has no end point {', '.join(sorted(unknown))}; it has {', '.join(places)}{heads}"
            )
        last = max((names.index(places[name]) for name in end_points), default=-1)
        layers = self.layers[: last + 1]
        return replace(
            self, layers=layers, aux=tuple(head for head in self.aux if head.at in dict(layers))
        )


def _classifies(word: Word) -> bool:
    return isinstance(word, Linear) and word.features is None


def _features(steps: Steps) -> Steps:
    return tuple(
        word for word in flatten(steps) if not (_classifies(word) or isinstance(word, Softmax))
    )


def name_words(steps: Steps) -> Iterator[tuple[str, Word]]:
    """The words of one place, each with the name that its parameters carry: `conv_<h>x<w>`, a second one `..._2`.

    `Concat` and `Residual` open no place of their own (their parts are `branch_<i>`, `shortcut`, `up`), so a place
    holds one of them at most.

    Raises:
      ValueError: a second concat or residual in one sequence.
    """
    seen: Counter[str] = Counter()
    for word in flatten(steps):
        if isinstance(word, Conv):
            name = f"conv_{word.kernel[0]}x{word.kernel[1]}"
        elif isinstance(word, Concat | Residual):
            name = "branches"
            if seen[name]:
                raise ValueError(
                    "two of concat and residual stand in one sequence, where their branches would share names: "
                    "give each an end point (a row of the table) of its own"
                )
        else:
            name = "pool" if isinstance(word, Pool) else type(word).__name__.lower()
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), word


def flatten(steps: Steps) -> Iterator[Word]:
    """The words of a sequence, one after the other."""
    if isinstance(steps, tuple):
        for step in steps:
            yield from flatten(step)
    else:
        yield steps


def iterate_words(part: Any) -> Iterator[Any]:
    """All words of a part, those inside others too."""
    if isinstance(part, tuple):
        for item in part:
            yield from iterate_words(item)
    elif is_dataclass(part):
        yield part
        for field in fields(part):
            yield from iterate_words(getattr(part, field.name))


def rewrite_words(part: Any, change: Callable[[Any], Any]) -> Any:
    """The same words with `change` applied to each of them, parts before wholes."""
    if isinstance(part, tuple):
        return tuple(rewrite_words(item, change) for item in part)
    if not is_dataclass(part):
        return part
    return change(
        replace(
            part,
            **{
                field.name: rewrite_words(getattr(part, field.name), change)
                for field in fields(part)
            },
        )
    )  # type: ignore


# The short forms that tables are written in.


def make_pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def conv(
    filters: int | None,
    kernel: int | Pair,
    stride: int | Pair = 1,
    padding: Padding = "same",
    **unit: Any,
) -> Conv:
    return Conv(filters, make_pair(kernel), make_pair(stride), padding, **unit)


def same(filters: int | None, kernel: int | Pair, stride: int | Pair = 1, **unit: Any) -> Conv:
    return conv(filters, kernel, stride, "same", **unit)


def valid(filters: int | None, kernel: int | Pair, stride: int | Pair = 1, **unit: Any) -> Conv:
    return conv(filters, kernel, stride, "valid", **unit)


def max_(
    kernel: int | Pair,
    stride: int | Pair = 1,
    padding: Padding = "same",
    pad_value: float | None = None,
) -> Pool:
    return Pool("max", make_pair(kernel), make_pair(stride), padding, pad_value)


def avg(
    kernel: int | Pair, stride: int | Pair = 1, padding: Padding = "same", shrink: bool = False
) -> Pool:
    return Pool("avg", make_pair(kernel), make_pair(stride), padding, shrink=shrink)


def adaptive_avg(grid: int | Pair) -> Pool:
    return Pool("avg", None, grid=make_pair(grid))


def global_avg() -> Pool:
    return Pool("avg", None)


def concat(*branches: Steps, figure: str = "") -> Concat:
    return Concat(branches, figure)


def layer(
    module: str, *, output_shape=None, multiply_adds=None, parameters=None, **fields: Any
) -> Layer:
    return Layer(module, tuple(sorted(fields.items())), output_shape, multiply_adds, parameters)


def table(**rows: Steps) -> Table:
    """End points in order: `table(Conv2d_1a_7x7=same(64, 7, 2), MaxPool_2a_3x3=max_(3, 2), ...)`."""
    return tuple(rows.items())
