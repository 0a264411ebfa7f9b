"""What another framework calls the arrays of our networks: by rule, and in the order of our tables.

A rule says where an end point of ours stands there, and how its layers are called, in the order in which `measure` lists them: branches
from left to right, each from its input to its output, then `up`, then the shortcut. So a rule knows no kernel and no width, and one that
does not fit its table is found out by the number of its layers.
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
    """A place whose numbers and letters are so far from those that the pattern's groups matched: they count from elsewhere there."""

    def place(match: re.Match[str]) -> str:
        groups = zip(match.groups(), by, strict=True)
        return template.format(*(int(g) + n if g.isdigit() else chr(ord(g) + n) for g, n in groups))

    return place


class ForeignLayer(NamedTuple):
    """A row of `measure` that has parameters, and what it is called there; None for what it has not."""

    row: Row
    convolution: str | None
    statistics: str | None
    affine: str | None


@dataclass(frozen=True)
class Names:
    """The names of one network in one framework.

    Attributes:
      rules: (pattern of an end point or an auxiliary head, its place there, its layers, parted by blanks).
        A layer is `name`, or `convolution:norm` where the two are called by names of their own; `:norm` is a norm by itself.
        `shortcut=` marks the layer of a projection, which not every unit has. No layers are one, called as its place. A `#` is `""`,
        `_1`, `_2`, ... in the order of the network, as Keras numbers what it has no name for.
      joint: between a place and its layers; where a rule has `@`, that is the place, and nothing is joined.
      prefix: of all names.
      convolution, norm: what `name` becomes for a convolution and its norm. A `|` in a norm's name parts that of its statistics
        from that of its gamma and beta (Caffe's two layers).
      bare: what `name` becomes for a convolution without a norm, and for a linear layer.
    """

    rules: tuple[tuple[str, PlaceName, str], ...]
    joint: str = "."
    prefix: str = ""
    convolution: str = "{}"
    norm: str = "{}"
    bare: str = "{}"

    def layers(self, architecture: Architecture) -> Iterator[ForeignLayer]:
        """Every layer of `architecture`, auxiliary heads last.

        Raises:
          ValueError: an end point without a rule, or a rule with another number of layers than the table has there.
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
        """What an end point or an auxiliary head is called there."""
        return self.prefix + self._rule(end_point)[0]

    def _rule(self, end_point: str) -> tuple[str, str]:
        """The place of an end point there, and the names of its layers."""
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
