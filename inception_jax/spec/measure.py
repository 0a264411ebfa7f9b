"""Measures a table without running it: shapes, parameters, multiply-adds and receptive fields.

Multiply-adds count convolutions and matrix products only, one per multiplication, for one example.
Bias, norm, pooling and additions are not counted (torchvision's `_ops` count the same way).
Parameters are those that are trained; the running mean and variance of a norm are counted as
`batch_stats`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import prod

from inception_jax.spec import vocabulary as words
from inception_jax.spec.geometry import (
    ReceptiveField,
    get_kernel,
    list_adaptive_windows,
    slide_windows,
)
from inception_jax.spec.rewritten import PooledConv
from inception_jax.spec.vocabulary import (
    Architecture,
    Concat,
    Conv,
    Linear,
    NormAct,
    Pair,
    Pool,
    Residual,
    Shape,
    Steps,
    Word,
    make_pair,
    name_words,
)


@dataclass(frozen=True)
class FeatureMap:
    """A tensor inside the network.

    Attributes:
      shape: Shape of one example.
      rows: Receptive field of its first value along the height of the image.
      columns: Receptive field of its first value along the width of the image.
    """

    shape: Shape
    rows: ReceptiveField = ReceptiveField()
    columns: ReceptiveField = ReceptiveField()

    @property
    def receptive_field(self) -> Pair:
        """Returns the size of the receptive field in pixels, (height, width)."""
        return self.rows.size, self.columns.size

    @property
    def stride(self) -> Pair:
        """Returns the pixels of the image between neighbouring positions, (height, width)."""
        return self.rows.jump, self.columns.jump

    @property
    def activations(self) -> int:
        """Returns the number of values in the tensor, for one example."""
        return prod(self.shape)


@dataclass(frozen=True)
class Row:
    """The measurements of one word.

    Attributes:
      path: Path of its parameters.
      kind: Kind of the word, such as "conv" or "max pool".
      kernel: Height and width of its window; None without one.
      stride: Stride of its window; None without one.
      input: Shape of its input.
      output: Its output.
      parameters: Number of trained parameters; None where a `Layer` gives no count.
      batch_stats: Number of running means and variances.
      multiply_adds: Number of multiply-adds; None where a `Layer` gives no count.
      padding: Pixels of padding above, left, below and right.
    """

    path: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    input: Shape
    output: FeatureMap
    parameters: int | None = 0
    batch_stats: int = 0
    multiply_adds: int | None = 0
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Measurement:
    """The measurements of an architecture.

    Attributes:
      architecture: The network.
      rows: One row for each word, in order.
      end_points: The tensor after each end point.
      aux_rows: The rows of the auxiliary heads.
      aux_end_points: The output of each auxiliary head.
    """

    architecture: Architecture
    rows: tuple[Row, ...]
    end_points: dict[str, FeatureMap]
    aux_rows: tuple[Row, ...]
    aux_end_points: dict[str, FeatureMap]

    @property
    def parameters(self) -> int | None:
        """Returns the number of parameters without the auxiliary heads; None if unknown."""
        return _sum_counts(row.parameters for row in self.rows)

    @property
    def batch_stats(self) -> int:
        """Returns the number of running means and variances without the auxiliary heads."""
        return sum(row.batch_stats for row in self.rows)

    @property
    def multiply_adds(self) -> int | None:
        """Returns the number of multiply-adds without the auxiliary heads; None if unknown."""
        return _sum_counts(row.multiply_adds for row in self.rows)

    @property
    def aux_parameters(self) -> int | None:
        """Returns the number of parameters of the auxiliary heads; None if unknown."""
        return _sum_counts(row.parameters for row in self.aux_rows)

    @property
    def aux_multiply_adds(self) -> int | None:
        """Returns the number of multiply-adds of the auxiliary heads; None if unknown."""
        return _sum_counts(row.multiply_adds for row in self.aux_rows)

    @property
    def aux_batch_stats(self) -> int:
        """Returns the number of running means and variances of the auxiliary heads."""
        return sum(row.batch_stats for row in self.aux_rows)

    @property
    def receptive_field(self) -> Pair:
        """Returns the receptive field of the last map, or of the first layer without maps."""
        outputs = list(self.end_points.values())
        maps = [output for output in outputs if len(output.shape) == 3]
        return (maps or outputs[:1])[-1].receptive_field


def _sum_counts(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


class TooSmallError(ValueError):
    """A window that does not fit into a map once.

    The message names the place and the smallest legal image.
    """


def measure(
    architecture: Architecture,
    *,
    image_size: int | Pair | None = None,
    channels: int | None = None,
    num_classes: int | None = None,
) -> Measurement:
    """Measures `architecture` without running it.

    Args:
      architecture: The network.
      image_size: Pixels of the images, (height, width) or one number for square images. None for
        the architecture's own size.
      channels: Channels of the images. None for the architecture's own number.
      num_classes: Number of classes. None for the architecture's own number, 0 to leave the
        classifier out.

    Raises:
      TooSmallError: A window does not fit.
      ValueError: Branches cannot be concatenated, or the terms of a sum differ in shape. The
        message names the place in the table.
    """
    size = make_pair(image_size or architecture.input_size)
    try:
        classes = architecture.num_classes if num_classes is None else num_classes
        return _measure(architecture, size, channels or architecture.channels, classes)
    except TooSmallError as error:
        smallest = min_image_size(architecture)
        limit = (
            f"the smallest image that {architecture.name} takes is {smallest}x{smallest}"
            if smallest
            else "not even its own input size fits"
        )
        raise TooSmallError(f"{error}; {limit}, this one is {size[0]}x{size[1]}") from None


class UnknownShapeError(ValueError):
    """A `Layer` without an output shape, behind which nothing can be measured."""


def check_image_size(architecture: Architecture, image_size: Pair, channels: int) -> None:
    """Raises the errors of `measure`, without checking what follows a `Layer` of unknown shape."""
    with suppress(UnknownShapeError):
        measure(architecture, image_size=image_size, channels=channels)


def min_image_size(architecture: Architecture) -> int | None:
    """Returns the smallest height and width for which all windows fit and all branches join.

    Returns None if no size up to the architecture's own is legal.
    """
    for size in range(1, architecture.input_size + 1):
        try:
            _measure(architecture, (size, size), architecture.channels, 1)
            return size
        except ValueError:
            continue
    return None


def _measure(
    architecture: Architecture, size: Pair, channels: int, num_classes: int
) -> Measurement:
    architecture = architecture if num_classes else architecture.embedding
    main, aux = (_Measurer(architecture.unit, num_classes) for _ in range(2))
    x = FeatureMap((*size, channels))
    end_points = {}
    for name, steps in architecture.layers:
        x = end_points[name] = main.measure_steps(steps, x, name)
    heads = {
        head.name: aux.measure_steps(head.steps, end_points[head.at], head.name)
        for head in architecture.aux
    }
    return Measurement(architecture, tuple(main.rows), end_points, tuple(aux.rows), heads)


class _Measurer:
    """A walk over the words that appends a row for each of them."""

    def __init__(self, unit: words.Unit, num_classes: int):
        self.unit, self.num_classes, self.rows = unit, num_classes, list[Row]()

    def measure_steps(self, steps: Steps, x: FeatureMap, path: str) -> FeatureMap:
        for name, word in name_words(steps):
            nested = isinstance(word, Concat | Residual)
            x = self.measure_word(word, x, path if nested else f"{path}/{name}")
        return x

    def measure_word(self, word: Word, x: FeatureMap, path: str) -> FeatureMap:
        match word:
            case Conv():
                return self.measure_conv(word, x, path)
            case Pool():
                return self.measure_pool(word, x, path)
            case Linear():
                return self.measure_linear(word, x, path)
            case NormAct():
                channels = x.shape[-1]
                parameters = self.count_gamma_beta(channels)
                return self.add_row(
                    path, "norm", x, x, parameters=parameters, batch_stats=2 * channels
                )
            case Concat():
                return self.measure_concat(word, x, path)
            case Residual():
                return self.measure_residual(word, x, path)
            case words.Layer():
                return self.measure_layer(word, x, path)
            case words.Dropout() | words.LocalResponse() | words.Softmax():
                return self.add_row(path, words.get_kind(word), x, x)
        raise words.UnknownWordError(
            f"{path}: {word!r} is no word that a table is made of; "
            "write layer('package.module:Class') for a module"
        )

    def add_row(
        self,
        path: str,
        kind: str,
        x: FeatureMap,
        output: FeatureMap,
        window: Conv | Pool | None = None,
        **counts,
    ) -> FeatureMap:
        """Appends a row and returns `output`; `window` is the word if it slides a window."""
        kernel = stride = None
        padding = (0, 0, 0, 0)
        if window:
            kernel, stride = get_kernel(window, *x.shape[:2]), window.stride
            rows, columns = slide_windows(window, x.shape, self.unit.same)
            padding = (rows.before, columns.before, rows.after, columns.after)
        self.rows.append(
            Row(path, kind, kernel, stride, x.shape, output, padding=padding, **counts)
        )
        return output

    def count_gamma_beta(self, channels: int) -> int:
        return channels * (1 + self.unit.norm_scale)

    def apply_window(
        self, word: Conv | Pool, x: FeatureMap, channels: int, path: str
    ) -> FeatureMap:
        self.check_is_map(x, path)
        try:
            rows, columns = slide_windows(word, x.shape, self.unit.same)
        except ValueError as error:
            raise TooSmallError(f"{path}: {error}") from None
        kernel = get_kernel(word, *x.shape[:2])
        return FeatureMap(
            (rows.size, columns.size, channels),
            x.rows.apply_window(kernel[0], word.stride[0], rows.before),
            x.columns.apply_window(kernel[1], word.stride[1], columns.before),
        )

    def apply_adaptive_window(self, word: Pool, x: FeatureMap) -> FeatureMap:
        """Returns the output of an adaptive pool, with the receptive field of its widest window."""
        height, width, channels = x.shape
        rows, columns = word.grid or (1, 1)
        widest = [
            max(window.stop - window.start for window in list_adaptive_windows(*axis))
            for axis in ((height, rows), (width, columns))
        ]
        return FeatureMap(
            (rows, columns, channels),
            x.rows.apply_window(widest[0], max(height // rows, 1), 0),
            x.columns.apply_window(widest[1], max(width // columns, 1), 0),
        )

    def check_is_map(self, x: FeatureMap, path: str) -> None:
        if len(x.shape) != 3:
            raise ValueError(
                f"{path}: needs a map (height, width, channels) but gets {x.shape}; "
                "move it before the global pool"
            )

    def measure_pool(self, word: Pool, x: FeatureMap, path: str) -> FeatureMap:
        self.check_is_map(x, path)
        if word.kernel:
            output = self.apply_window(word, x, x.shape[-1], path)
            return self.add_row(path, f"{word.kind} pool", x, output, word)
        if word.grid:
            output = self.apply_adaptive_window(word, x)
            return self.add_row(path, f"adaptive {word.kind} pool", x, output)
        output = FeatureMap(x.shape[-1:], *_cover_whole_map(x))
        return self.add_row(path, f"global {word.kind} pool", x, output, word)

    def measure_conv(self, word: Conv, x: FeatureMap, path: str) -> FeatureMap:
        self.check_is_map(x, path)
        inputs = x.shape[-1]
        filters = word.filters or inputs
        output = self.apply_window(word, x, filters, path)
        positions, taps = prod(output.shape[:2]), prod(get_kernel(word, *x.shape[:2]))
        if word.depth_multiplier:
            middle = inputs * word.depth_multiplier
            weights = taps * middle + middle * filters
        else:
            weights = taps * inputs * filters
        norm, bias = self.unit.get_norm_and_bias(word)
        if isinstance(word, PooledConv):
            output = self.apply_window(word.pool, output, filters, path)
        return self.add_row(
            path, "separable conv" if word.depth_multiplier else "conv", x, output, word,
            parameters=weights + bias * filters + norm * self.count_gamma_beta(filters),
            batch_stats=norm * 2 * filters,
            multiply_adds=positions * weights,
        )  # fmt: skip

    def measure_linear(self, word: Linear, x: FeatureMap, path: str) -> FeatureMap:
        inputs = prod(x.shape)
        features = self.num_classes if word.features is None else word.features
        norm_parameters = word.norm * self.count_gamma_beta(features)
        return self.add_row(
            path, "linear", x, FeatureMap((features,), *_cover_whole_map(x)),
            parameters=inputs * features + word.bias * features + norm_parameters,
            batch_stats=word.norm * 2 * features,
            multiply_adds=inputs * features,
        )  # fmt: skip

    def measure_concat(self, word: Concat, x: FeatureMap, path: str) -> FeatureMap:
        outputs = [
            self.measure_steps(branch, x, f"{path}/branch_{i}")
            for i, branch in enumerate(word.branches)
        ]
        if len({output.shape[:-1] for output in outputs}) > 1:
            shapes = ", ".join(f"branch_{i} {output.shape}" for i, output in enumerate(outputs))
            raise ValueError(
                f"{path}: branches of different size cannot be joined: {shapes}; "
                "give them equal strides and padding, or another image size"
            )
        rows, columns = outputs[0].rows, outputs[0].columns
        for output in outputs[1:]:
            rows, columns = rows.merge(output.rows), columns.merge(output.columns)
        channels = sum(output.shape[-1] for output in outputs)
        return FeatureMap((*outputs[0].shape[:-1], channels), rows, columns)

    def measure_residual(self, word: Residual, x: FeatureMap, path: str) -> FeatureMap:
        if word.preactivation:
            self.measure_word(NormAct(), x, f"{path}/norm")
        output = self.measure_steps(word.branch, x, path)
        if word.expansion_conv:
            output = self.measure_conv(make_expansion_conv(x.shape[-1]), output, f"{path}/up")
        if word.shortcut == "pad":
            subsample = Pool("max", (1, 1), word.stride)
            shortcut = self.apply_window(subsample, x, output.shape[-1], path)
        elif word.shortcut is not None:
            shortcut = self.measure_steps(word.shortcut, x, f"{path}/shortcut")
        else:
            shortcut = x
        if shortcut.shape != output.shape:
            raise ValueError(
                f"{path}: the shortcut is {shortcut.shape} but the branch is {output.shape}; "
                "a sum needs equal shapes"
            )
        total = FeatureMap(
            output.shape, output.rows.merge(shortcut.rows), output.columns.merge(shortcut.columns)
        )
        return self.measure_word(NormAct(), total, f"{path}/sum_norm") if word.norm else total

    def measure_layer(self, word: words.Layer, x: FeatureMap, path: str) -> FeatureMap:
        if word.output_shape is None:
            raise UnknownShapeError(
                f"{path}: {word.module} has no output shape; give layer(..., output_shape=function)"
            )
        fields = dict(word.fields)
        output = FeatureMap(word.output_shape(x.shape, **fields), x.rows, x.columns)
        return self.add_row(
            path, word.module.rpartition(":")[2], x, output,
            parameters=word.parameters(x.shape, **fields) if word.parameters else None,
            multiply_adds=word.multiply_adds(x.shape, **fields) if word.multiply_adds else None,
        )  # fmt: skip


def make_expansion_conv(filters: int) -> Conv:
    """Returns the linear 1x1 convolution that ends a branch with `Residual.expansion_conv`."""
    return Conv(filters, (1, 1), norm=False, bias=True, activation="linear")


def _cover_whole_map(x: FeatureMap) -> tuple[ReceptiveField, ReceptiveField]:
    """Returns the receptive field of a value that depends on the whole of `x`."""
    if len(x.shape) != 3:
        return x.rows, x.columns
    height, width, _ = x.shape
    return x.rows.apply_window(height, 1, 0), x.columns.apply_window(width, 1, 0)
