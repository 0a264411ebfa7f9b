"""A network as another project publishes it: variant, names of its arrays, and input."""

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

ArrayShape = tuple[int, ...]


class SourceArray(NamedTuple):
    """An array of a network.

    Attributes:
      ours: Path here (`params/Logits/linear/kernel`).
      theirs: Name in the project.
      layout: The conversion of its layout.
    """

    ours: str
    theirs: str
    layout: ArrayLayout


@dataclass(frozen=True)
class SourceSpec:
    """A network as another project publishes it.

    Attributes:
      model: Name of the network here.
      variant: Its variant here.
      framework: Conventions of the project's framework.
      names: Names of its layers.
      data: Its input: `image_size`, `test_crop`, `test_crop_fraction`, `resize` and `scaling`.
      offsets: Number of classes -> number of those before ImageNet's first.
      as_kernel: Pattern of linear layers that the project keeps as 1x1 convolutions.
      blue_first: Whether its images are blue, green, red; the first kernel is then reversed, for
        red, green, blue.
      class_name: Template of class names that are not ImageNet's, with `{}` for the number.
      licence: Licence of the project's weights.
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
        """Returns the table of the network."""
        return get_architecture(self.model, self.variant)

    def arrays(self, shapes: Mapping[str, ArrayShape]) -> Iterator[SourceArray]:
        """Yields each array here with its name and layout in the project.

        Args:
          shapes: Shapes here by path, with or without auxiliary heads.

        Raises:
          ValueError: An array has no name in the project.
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

    def _layout(
        self, shape: ArrayShape, row: Row, ours: str, layer: str, first: bool
    ) -> ArrayLayout:
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
