"""What a table amounts to: shapes, parameters, multiply-adds and receptive fields, read off without running anything.

Multiply-adds count convolutions and matrix products only, one per multiplication, for one example: bias, norm,
pooling and additions are not counted (torchvision's `_ops` count the same way). Parameters are those that are trained;
the running mean and variance of a norm are counted apart, as `batch_stats`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import prod

from inception_jax.spec import vocabulary as words
from inception_jax.spec.geometry import (
    ReceptiveField,
    WindowSpan,
    adaptive_windows,
    get_kernel,
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
    """A tensor on its way through the network: the shape of one example, and what its first value has seen."""

    shape: Shape
    rows: ReceptiveField = ReceptiveField()
    columns: ReceptiveField = ReceptiveField()

    @property
    def receptive_field(self) -> Pair:
        return self.rows.size, self.columns.size

    @property
    def stride(self) -> Pair:
        return self.rows.jump, self.columns.jump

    @property
    def activations(self) -> int:
        """Values in the tensor, for one example."""
        return prod(self.shape)


@dataclass(frozen=True)
class Row:
    """One word at work. Counts are None where an open word does not tell them; `padding` is above, left, below, right."""

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
    """An architecture, measured: its rows in order, the places after each end point, and the auxiliary heads' rows."""

    architecture: Architecture
    rows: tuple[Row, ...]
    end_points: dict[str, FeatureMap]
    aux_rows: tuple[Row, ...]
    aux_end_points: dict[str, FeatureMap]

    @property
    def parameters(self) -> int | None:
        return _total(row.parameters for row in self.rows)

    @property
    def batch_stats(self) -> int:
        return sum(row.batch_stats for row in self.rows)

    @property
    def multiply_adds(self) -> int | None:
        return _total(row.multiply_adds for row in self.rows)

    @property
    def aux_parameters(self) -> int | None:
        return _total(row.parameters for row in self.aux_rows)

    @property
    def aux_multiply_adds(self) -> int | None:
        return _total(row.multiply_adds for row in self.aux_rows)

    @property
    def aux_batch_stats(self) -> int:
        return sum(row.batch_stats for row in self.aux_rows)

    @property
    def receptive_field(self) -> Pair:
        """Of the last map before the classifier; of the first layer where there are no maps."""
        places = list(self.end_points.values())
        return ([place for place in places if len(place.shape) == 3] or places[:1])[
            -1
        ].receptive_field


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


class TooSmallError(ValueError):
    """A window that does not fit into a map once; the message names the place and the smallest legal image."""


def measure(
    architecture: Architecture,
    *,
    image_size: int | Pair | None = None,
    channels: int | None = None,
    num_classes: int | None = None,
) -> Measurement:
    """Measures `architecture` on images of `image_size` pixels, (height, width) or square; what is not given is its own.

    With `num_classes=0` the classifier is left out.

    Raises:
      TooSmallError: a window that does not fit.
      ValueError: branches that cannot be joined, a sum of different shapes; the message names the place in the table.
    """
    size = make_pair(image_size or architecture.input_size)
    try:
        classes = architecture.num_classes if num_classes is None else num_classes
        return _measure(architecture, size, channels or architecture.channels, classes)
    except TooSmallError as error:
        least = min_image_size(architecture)
        limit = (
            f"the smallest image that {architecture.name} takes is {least}x{least}"
            if least
            else "not even its own input size fits"
        )
        raise TooSmallError(f"{error}; {limit}, this one is {size[0]}x{size[1]}") from None


class UnknownShapeError(ValueError):
    """An open word that does not tell its output shape: nothing behind it can be measured."""


def check_image_size(architecture: Architecture, image_size: Pair, channels: int) -> None:
    """Raises what `measure` raises; what stands behind an open word of unknown shape is taken on trust."""
    with suppress(UnknownShapeError):
        measure(architecture, image_size=image_size, channels=channels)


def min_image_size(architecture: Architecture) -> int | None:
    """The smallest legal height and width of an image: windows fit and branches join. None where no size up to the table's own is."""
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
    ruler = _Measurer(architecture.unit, num_classes)
    place = FeatureMap((*size, channels))
    end_points = {}
    for name, steps in architecture.layers:
        place = end_points[name] = ruler.steps(steps, place, name)
    aux = _Measurer(architecture.unit, num_classes)
    heads = {
        head.name: aux.steps(head.steps, end_points[head.at], head.name)
        for head in architecture.aux
    }
    return Measurement(architecture, tuple(ruler.rows), end_points, tuple(aux.rows), heads)


class _Measurer:
    """Walks the words and writes down a row for each."""

    def __init__(self, unit: words.Unit, num_classes: int):
        self.unit, self.num_classes, self.rows = unit, num_classes, list[Row]()

    def steps(self, steps: Steps, place: FeatureMap, path: str) -> FeatureMap:
        for name, word in name_words(steps):
            place = self.word(
                word, place, path if isinstance(word, Concat | Residual) else f"{path}/{name}"
            )
        return place

    def word(self, word: Word, place: FeatureMap, path: str) -> FeatureMap:
        match word:
            case Conv():
                return self.conv(word, place, path)
            case Pool(kernel=None, grid=None):
                return self.row(
                    path,
                    f"global {word.kind} pool",
                    place,
                    FeatureMap(self.map(place, path)[-1:], *_whole(place)),
                    word,
                )
            case Pool(kernel=None):
                return self.row(
                    path, f"adaptive {word.kind} pool", place, self.adaptive(word, place, path)
                )
            case Pool():
                return self.row(
                    path,
                    f"{word.kind} pool",
                    place,
                    self.window(word, place, place.shape[-1], path),
                    word,
                )
            case Linear():
                return self.linear(word, place, path)
            case NormAct():
                channels = place.shape[-1]
                return self.row(
                    path,
                    "norm",
                    place,
                    place,
                    parameters=self.gamma_beta(channels),
                    batch_stats=2 * channels,
                )
            case Concat():
                return self.concat(word, place, path)
            case Residual():
                return self.residual(word, place, path)
            case words.Layer():
                return self.layer(word, place, path)
            case words.Dropout() | words.LocalResponse() | words.Softmax():
                return self.row(path, type(word).__name__.lower(), place, place)
        raise words.UnknownWordError(
            f"{path}: {word!r} is no word that a table is made of; write layer('package.module:Class') for a module"
        )

    def row(
        self,
        path: str,
        kind: str,
        place: FeatureMap,
        output: FeatureMap,
        window: Conv | Pool | None = None,
        **counts,
    ) -> FeatureMap:
        kernel, stride = (
            (get_kernel(window, *place.shape[:2]), window.stride) if window else (None, None)
        )
        rows, columns = (
            slide_windows(window, place.shape, self.unit.same)
            if window
            else (WindowSpan(0, 0, 0), WindowSpan(0, 0, 0))
        )
        padding = (rows.before, columns.before, rows.after, columns.after)
        self.rows.append(
            Row(path, kind, kernel, stride, place.shape, output, padding=padding, **counts)
        )
        return output

    def gamma_beta(self, channels: int) -> int:
        return channels * (1 + self.unit.norm_scale)

    def window(self, word: Conv | Pool, place: FeatureMap, channels: int, path: str) -> FeatureMap:
        self.map(place, path)
        try:
            rows, columns = slide_windows(word, place.shape, self.unit.same)
        except ValueError as error:
            raise TooSmallError(f"{path}: {error}") from None
        kernel = get_kernel(word, *place.shape[:2])
        sights = (
            place.rows.through(kernel[0], word.stride[0], rows.before),
            place.columns.through(kernel[1], word.stride[1], columns.before),
        )
        return FeatureMap((rows.size, columns.size, channels), *sights)

    def adaptive(self, word: Pool, place: FeatureMap, path: str) -> FeatureMap:
        """The windows differ in size; the widest stands for all."""
        height, width, channels = self.map(place, path)
        rows, columns = word.grid or (1, 1)
        widest = [
            max(window.stop - window.start for window in adaptive_windows(*axis))
            for axis in ((height, rows), (width, columns))
        ]
        sights = (
            place.rows.through(widest[0], max(height // rows, 1), 0),
            place.columns.through(widest[1], max(width // columns, 1), 0),
        )
        return FeatureMap((rows, columns, channels), *sights)

    def map(self, place: FeatureMap, path: str) -> Shape:
        if len(place.shape) != 3:
            raise ValueError(
                f"{path}: needs a map (height, width, channels) but gets {place.shape}; move it before the global pool"
            )
        return place.shape

    def conv(self, word: Conv, place: FeatureMap, path: str) -> FeatureMap:
        inputs = self.map(place, path)[-1]
        filters = word.filters or inputs
        output = self.window(word, place, filters, path)
        positions, taps = prod(output.shape[:2]), prod(get_kernel(word, *place.shape[:2]))
        if word.depth_multiplier:
            middle = inputs * word.depth_multiplier
            weights = taps * middle + middle * filters
        else:
            weights = taps * inputs * filters
        norm, bias = self.unit.of(word)
        if isinstance(word, PooledConv):
            output = self.window(word.pool, output, filters, path)
        return self.row(
            path, "separable conv" if word.depth_multiplier else "conv", place, output, word,
            parameters=weights + bias * filters + norm * self.gamma_beta(filters),
            batch_stats=norm * 2 * filters,
            multiply_adds=positions * weights,
        )  # fmt: skip

    def linear(self, word: Linear, place: FeatureMap, path: str) -> FeatureMap:
        inputs, features = (
            prod(place.shape),
            self.num_classes if word.features is None else word.features,
        )
        return self.row(
            path, "linear", place, FeatureMap((features,), *_whole(place)),
            parameters=inputs * features + word.bias * features + word.norm * self.gamma_beta(features),
            batch_stats=word.norm * 2 * features,
            multiply_adds=inputs * features,
        )  # fmt: skip

    def concat(self, word: Concat, place: FeatureMap, path: str) -> FeatureMap:
        outputs = [
            self.steps(branch, place, f"{path}/branch_{i}")
            for i, branch in enumerate(word.branches)
        ]
        if len({output.shape[:-1] for output in outputs}) > 1:
            shapes = ", ".join(f"branch_{i} {output.shape}" for i, output in enumerate(outputs))
            raise ValueError(
                f"{path}: branches of different size cannot be joined: {shapes}; give them equal strides and padding, or another image size"
            )
        rows, columns = outputs[0].rows, outputs[0].columns
        for output in outputs[1:]:
            rows, columns = rows.joined(output.rows), columns.joined(output.columns)
        return FeatureMap(
            (*outputs[0].shape[:-1], sum(output.shape[-1] for output in outputs)), rows, columns
        )

    def residual(self, word: Residual, place: FeatureMap, path: str) -> FeatureMap:
        if word.preactivation:
            self.word(NormAct(), place, f"{path}/norm")
        output = self.steps(word.branch, place, path)
        if word.expansion_conv:
            output = self.conv(make_expansion_conv(place.shape[-1]), output, f"{path}/up")
        if word.shortcut == "pad":
            shortcut = self.window(Pool("max", (1, 1), word.stride), place, output.shape[-1], path)
        elif word.shortcut is not None:
            shortcut = self.steps(word.shortcut, place, f"{path}/shortcut")
        else:
            shortcut = place
        if shortcut.shape != output.shape:
            raise ValueError(
                f"{path}: the shortcut is {shortcut.shape} but the branch is {output.shape}; a sum needs equal shapes"
            )
        total = FeatureMap(
            output.shape, output.rows.joined(shortcut.rows), output.columns.joined(shortcut.columns)
        )
        return self.word(NormAct(), total, f"{path}/sum_norm") if word.norm else total

    def layer(self, word: words.Layer, place: FeatureMap, path: str) -> FeatureMap:
        if word.output_shape is None:
            raise UnknownShapeError(
                f"{path}: {word.module} does not tell its output shape; give layer(..., output_shape=function)"
            )
        fields = dict(word.fields)
        return self.row(
            path, word.module.rpartition(":")[2], place, FeatureMap(word.output_shape(place.shape, **fields), place.rows, place.columns),
            parameters=word.parameters(place.shape, **fields) if word.parameters else None,
            multiply_adds=word.multiply_adds(place.shape, **fields) if word.multiply_adds else None,
        )  # fmt: skip


def make_expansion_conv(filters: int) -> Conv:
    """The linear 1x1 convolution that ends a residual branch with `up` set."""
    return Conv(filters, (1, 1), norm=False, bias=True, activation="linear")


def _whole(place: FeatureMap) -> tuple[ReceptiveField, ReceptiveField]:
    """The sight of a value that has seen all of a map."""
    if len(place.shape) != 3:
        return place.rows, place.columns
    height, width, _ = place.shape
    return place.rows.through(height, 1, 0), place.columns.through(width, 1, 0)
