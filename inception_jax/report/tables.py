"""The networks as tables of text, printed as the papers print them, and as records for programs."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from inception_jax.models.claims import Claim
from inception_jax.spec.depth import depth
from inception_jax.spec.measure import Measurement
from inception_jax.spec.vocabulary import (
    Concat,
    Conv,
    Dropout,
    Layer,
    Linear,
    LocalResponse,
    Norm,
    Pool,
    Residual,
    Shape,
    Softmax,
    Steps,
    flatten,
)


def family(measured: Iterable[Measurement]) -> str:
    """A line for each network and variant."""
    rows = [
        (
            m.architecture.name,
            m.architecture.variant,
            m.architecture.input_size,
            m.parameters,
            m.multiply_adds,
            m.receptive_field[0],
            m.architecture.paper,
            m.architecture.source,
        )
        for m in measured
    ]
    return aligned(("model", "variant", "input", "parameters", "multiply-adds", "receptive field", "paper", "source"), rows)


class Line(NamedTuple):
    """A line of a paper's table: what, patch/stride or remarks, the size of what goes in."""

    type: str
    remarks: str
    input: Shape


def printed(measured: Measurement) -> str:
    """The table as the papers print it: type, patch size/stride or remarks, input size; equal modules on one line."""
    table = measured.architecture
    shape = measured.rows[0].input
    lines: list[tuple[Line, str, Shape]] = []
    for name, steps in table.layers:
        before, shape = shape, measured.end_points[name].shape
        if any(not isinstance(word, Dropout) for word in flatten(steps)):
            lines.append((_line(steps, before, shape), name, shape))
    rows: list[tuple[str, str, str, str]] = []
    notes = dict(table.notes)
    for _, same in groupby(lines, key=lambda line: (*line[0][:2], line[2]) if line[0].type in MODULES else line):
        group = list(same)
        line, names = group[0][0], [name for _, name, _ in group]
        count = f"{len(group)} x " if len(group) > 1 else ""
        note = "; ".join(notes[name] for name in names if name in notes)
        rows.append((count + line.type, line.remarks, _times(line.input if len(line.input) > 1 else (1, 1, *line.input)), note))
    return aligned(("type", "patch/stride or remarks", "input size", "note" if table.notes else ""), rows)


MODULES = ("Inception", "residual")


def _line(steps: Steps, shape: Shape, after: Shape) -> Line:
    words = [word for word in flatten(steps) if not isinstance(word, Dropout)]
    types, remarks = [], []
    for word in words:
        match word:
            case Conv():
                types.append("conv padded" if word.padding != "valid" and word.kernel != (1, 1) else "conv")
                remarks.append(f"{_times(word.kernel)}/{word.stride[0]}" + (" separable" if word.depth_multiplier else ""))
            case Pool():
                types.append("pool")
                remarks.append(f"{_times(word.kernel)}/{word.stride[0]}" if word.kernel else _times(shape[:2]))
            case Concat() | Residual():
                types.append(MODULES[isinstance(word, Residual)])
                remarks += [f"as in {word.figure}" if word.figure else "", "stride 2" if after[0] < shape[0] else ""]
            case Linear():
                types.append("linear")
                remarks.append("logits" if word.features is None else str(word.features))
            case Softmax():
                types.append("softmax")
                remarks.append("classifier")
            case Norm():
                types.append("norm")
            case LocalResponse():
                types.append("local response norm")
            case Layer():
                types.append(word.module.rpartition(":")[2])
    return Line(" + ".join(types), ", ".join(filter(None, remarks)), shape)


def record(measured: Measurement) -> dict[str, Any]:
    """What `models --json` holds of one network and variant; counts are without auxiliary heads."""
    table = measured.architecture
    return {
        "name": table.name,
        "variant": table.variant,
        "input_size": table.input_size,
        "num_classes": table.num_classes,
        "parameters": measured.parameters,
        "batch_stats": measured.batch_stats,
        "aux_parameters": measured.aux_parameters,
        "multiply_adds": measured.multiply_adds,
        "receptive_field": measured.receptive_field,
        "depth": depth(table),
        "end_points": [
            {
                "name": name,
                "shape": place.shape,
                "stride": place.stride,
                "receptive_field": place.receptive_field,
                "activations": place.activations,
            }
            for name, place in measured.end_points.items()
        ],
        "aux_end_points": {name: place.shape for name, place in measured.aux_end_points.items()},
        "class_offset": table.class_offset,
        "paper": table.paper,
        "source": table.source,
        "notes": dict(table.notes),
    }


def verdicts(claims: Iterable[Claim]) -> str:
    """A line for each claim of the founding documents: as quoted, as computed, and whether it holds."""
    rows = [(claim.quote, claim.computed, "holds" if claim.holds else "does not hold", claim.source) for claim in claims]
    return aligned(("claim", "computed from the tables", "verdict", "source"), rows)


def layers(measured: Measurement) -> str:
    """A line for each row of the table, and the sums."""
    rows = [
        (
            row.path,
            row.kind,
            _times(row.kernel),
            _times(row.stride),
            _times(row.input),
            _times(row.output.shape),
            row.parameters,
            row.multiply_adds,
        )
        for row in measured.rows
    ]
    header = ("layer", "kind", "kernel", "stride", "input", "output", "parameters", "multiply-adds")
    table = measured.architecture
    total = (
        f"{table.name} ({table.variant}): {_number(measured.parameters)} parameters, {_number(measured.batch_stats)} statistics, "
        f"{_number(measured.multiply_adds)} multiply-adds; source: {table.source}"
    )
    return f"{aligned(header, rows)}\n{total}"


def _times(sizes: Sequence[int] | None) -> str:
    return "x".join(map(str, sizes)) if sizes else ""


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


NUMBERS = {
    "parameters", "multiply-adds", "input", "receptive field", "crops", "models", "pixels", "top-1 error", "top-5 error", "measured here",
    "GFLOP", "MB", "ms", "share",
}  # fmt: skip
"""Columns that end at the same place."""


def aligned(header: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> str:
    cells = [list(header), *([cell if isinstance(cell, str) else _number(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    right = [name in NUMBERS for name in header]
    lines = [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)
