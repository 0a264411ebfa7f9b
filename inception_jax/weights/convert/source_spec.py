"""A network as another project publishes it: which variant of ours it is, its arrays' names there, and what it is fed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from inception_jax.config import Data
from inception_jax.models import get_architecture
from inception_jax.spec.measure import Row
from inception_jax.spec.vocabulary import Architecture
from inception_jax.weights.convert import layout
from inception_jax.weights.convert.frameworks import Framework
from inception_jax.weights.convert.layout import ArrayLayout
from inception_jax.weights.convert.names import Names

Shape = tuple[int, ...]


class SourceArray(NamedTuple):
    """One array: its path here (`params/Logits/linear/kernel`), its name there, and how it lies."""

    ours: str
    theirs: str
    layout: ArrayLayout


@dataclass(frozen=True)
class SourceSpec:
    """
    Attributes:
      model, variant: ours.
      data: what the network is fed there: `image_size`, `test_crop`, `test_crop_fraction`, `resize` and `scaling`.
      offsets: classes of a head -> those that stand before ImageNet's first.
      as_kernel: a pattern of linear layers that are kept as 1x1 convolutions there.
      blue_first: images there are blue, green, red; the first kernel is turned, so that ours are red, green, blue as everywhere.
      class_name: of those of a head whose classes are not ImageNet's, `{}` for the number.
      licence: of the weights that the project publishes.
    """

    model: str
    variant: str
    framework: Framework
    names: Names
    data: Data
    offsets: tuple[tuple[int, int], ...] = ((1000, 0),)
    as_kernel: str = "(?!)"
    blue_first: bool = False
    class_name: str = ""
    licence: str = ""

    @property
    def architecture(self) -> Architecture:
        return get_architecture(self.model, self.variant)

    def arrays(self, shapes: Mapping[str, Shape]) -> Iterator[SourceArray]:
        """Each of our arrays, by its path, with its name and layout there.

        Args:
          shapes: of ours, by path. Auxiliary heads may be among them or not.

        Raises:
          ValueError: an array of ours that has no name there.
        """
        there, first = self.framework, True
        unnamed = dict(shapes)
        for layer in self.names.layers(self.architecture):
            path = layer.row.path
            norm = path if layer.row.kind == "norm" else f"{path}/norm"
            named = (
                (f"params/{path}/depthwise_kernel", layer.convolution, there.depthwise),
                (
                    f"params/{path}/kernel",
                    layer.convolution,
                    there.pointwise if "separable" in layer.row.kind else there.kernel,
                ),
                (f"params/{path}/bias", layer.convolution, there.bias),
                (f"params/{norm}/scale", layer.affine, there.gamma),
                (f"params/{norm}/bias", layer.affine, there.beta),
                (f"batch_stats/{norm}/mean", layer.statistics, there.mean),
                (f"batch_stats/{norm}/var", layer.statistics, there.variance),
            )
            for ours, place, name in named:
                if place is not None and ours in unnamed:
                    lies = self._layout(unnamed.pop(ours), layer.row, ours, place, first)
                    yield SourceArray(ours, place + there.joint + name, lies)
            first = False
        if unnamed:
            raise ValueError(f"{self.model} ({self.variant}): no name for {', '.join(unnamed)}")

    def _layout(self, shape: Shape, row: Row, ours: str, layer: str, first: bool) -> ArrayLayout:
        outputs_first = self.framework.outputs_first
        if ours.endswith("depthwise_kernel"):
            return layout.depthwise_layout(shape, row.input[-1])
        if not ours.endswith("kernel"):
            return layout.plain_layout(shape)
        if row.kind == "linear":
            return layout.matrix_layout(
                shape,
                outputs_first=outputs_first,
                reads=row.input,
                as_kernel=re.search(self.as_kernel, layer) is not None,
            )
        return layout.kernel_layout(
            shape, outputs_first=outputs_first, blue_first=self.blue_first and first
        )
