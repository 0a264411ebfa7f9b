"""The names of a network's arrays in another framework, from rules and the order of the table.

A rule gives the name of an end point in the project, and the names of its layers in the order of
`measure`: branches from left to right, each from input to output, then the expansion `up`, then the
shortcut. A rule has no kernels and widths; one with the wrong number of layers for its table is an
error.

For example, torchvision's rule ("Mixed_5b", "Mixed_5b", "branch1x1 branch5x5_1 ...") maps
`params/Mixed_5b/branch_0/conv_1x1/kernel` to `Mixed_5b.branch1x1.conv.weight`.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from inception_jax.spec.measure import Row, measure
from inception_jax.spec.vocabulary import Architecture

PlaceName = str | Callable[[re.Match[str]], str]
"""The name there of what a pattern matched here: a template (`\\1`), or what makes it."""


def shift_template(template: str, *by: int) -> PlaceName:
    """Returns a place whose numbers and letters are shifted from those that the pattern matched.

    Projects count stages and units from other numbers.
    """

    def place(match: re.Match[str]) -> str:
        groups = zip(match.groups(), by, strict=True)
        return template.format(*(int(g) + n if g.isdigit() else chr(ord(g) + n) for g, n in groups))

    return place


class ForeignLayer(NamedTuple):
    """A row of `measure` with parameters, and its names in the project; None where it has none."""

    row: Row
    convolution: str | None
    statistics: str | None
    affine: str | None


@dataclass(frozen=True)
class Names:
    """The names of one network in one framework.

    Attributes:
      rules: (pattern of an end point or an auxiliary head, its name in the project, its layers
        separated by spaces). A layer is `name`, or `convolution:norm` for two names; `:norm` is a
        norm alone. `shortcut=` marks a projection, which some units lack. Without layers the end
        point is one layer of its name. `#` becomes `""`, `_1`, `_2`, ... in the order of the
        network, as Keras numbers layers without names.
      joint: Text between an end point and its layers; in a rule with `@`, that is the end point,
        and nothing is joined.
      prefix: Text before all names.
      convolution: Template of `name` for a convolution.
      norm: Template of `name` for its norm. `|` separates the names of its statistics and of gamma
        and beta (Caffe's two layers).
      bare: Template of `name` for a convolution without a norm, and for a linear layer.
    """

    rules: tuple[tuple[str, PlaceName, str], ...]
    joint: str = "."
    prefix: str = ""
    convolution: str = "{}"
    norm: str = "{}"
    bare: str = "{}"

    def layers(self, architecture: Architecture) -> Iterator[ForeignLayer]:
        """Returns every layer of `architecture`, auxiliary heads last.

        Raises:
          ValueError: An end point has no rule, or its rule another number of layers than the table.
        """
        measured = measure(architecture)
        rows = [row for row in (*measured.rows, *measured.aux_rows) if row.parameters]
        number = itertools.count()
        for place, group in itertools.groupby(rows, lambda row: row.path.partition("/")[0]):
            own = list(group)
            called, layers = self._rule(place)
            if "@" in layers:
                called, layers = "", layers.replace("@", called)
            listed, _, shortcut = layers.partition("shortcut=")
            named = (listed.split() or [""]) + [shortcut for row in own if "/shortcut/" in row.path]
            if len(named) != len(own):
                raise ValueError(
                    f"{place} has {len(own)} layers, and its names are {' '.join(named)}"
                )
            for row, layer in zip(own, named, strict=True):
                if "#" in layer:
                    layer = layer.replace("#", f"_{i}" if (i := next(number)) else "")
                yield self._layer(row, called, layer)

    def place(self, end_point: str) -> str:
        """Returns the project's name of an end point or an auxiliary head."""
        return self.prefix + self._rule(end_point)[0]

    def _rule(self, end_point: str) -> tuple[str, str]:
        """Returns the project's name of an end point, and the names of its layers."""
        for pattern, called, layers in self.rules:
            if match := re.fullmatch(pattern, end_point):
                return called(match) if callable(called) else match.expand(called), layers
        raise ValueError(f"no rule names {end_point}")

    def _layer(self, row: Row, place: str, layer: str) -> ForeignLayer:
        convolution, parted, norm = layer.partition(":")
        if not parted:
            normed = row.kind != "norm" and row.batch_stats > 0
            convolution, norm = (
                (self.convolution if normed else self.bare).format(layer),
                self.norm.format(layer),
            )
        statistics, _, affine = norm.partition("|")

        def full(name: str) -> str:
            return self.prefix + self.joint.join(
                part for part in (place, name.removeprefix(self.joint)) if part
            )

        has_norm = row.batch_stats > 0
        return ForeignLayer(
            row,
            None if row.kind == "norm" else full(convolution),
            full(statistics) if has_norm else None,
            full(affine or statistics) if has_norm else None,
        )
