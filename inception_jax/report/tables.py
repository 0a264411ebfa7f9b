"""The networks as tables of text, printed as the papers print them, and as records for programs."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from inception_jax.spec import vocabulary
from inception_jax.spec.depth import count_depth
from inception_jax.spec.measure import Measurement
from inception_jax.spec.vocabulary import Dropout, Shape, Steps, flatten


def format_family(measured: Iterable[Measurement]) -> str:
    """A line for each network and variant."""
    rows = []
    for m in measured:
        of = m.architecture
        rows.append(
            (
                of.name,
                of.variant,
                of.input_size,
                m.parameters,
                m.multiply_adds,
                m.receptive_field[0],
                of.paper,
                of.source,
            )
        )
    return align_columns(
        (
            "model",
            "variant",
            "input",
            "parameters",
            "multiply-adds",
            "receptive field",
            "paper",
            "source",
        ),
        rows,
    )


class PaperRow(NamedTuple):
    """A line of a paper's table: what, patch/stride or remarks, the size of what goes in."""

    type: str
    remarks: str
    input: Shape


def format_paper_table(measured: Measurement) -> str:
    """The table as the papers print it: type, patch size/stride or remarks, input size; equal modules on one line."""
    table = measured.architecture
    shape = measured.rows[0].input
    lines: list[tuple[PaperRow, str, Shape]] = []
    for name, steps in table.layers:
        before, shape = shape, measured.end_points[name].shape
        if any(not isinstance(word, Dropout) for word in flatten(steps)):
            lines.append((_line(steps, before, shape), name, shape))
    rows: list[tuple[str, str, str, str]] = []
    notes = dict(table.notes)
    for _, same in groupby(
        lines, key=lambda line: (*line[0][:2], line[2]) if line[0].type in MODULE_TYPES else line
    ):
        group = list(same)
        line, names = group[0][0], [name for _, name, _ in group]
        count = f"{len(group)} x " if len(group) > 1 else ""
        note = "; ".join(notes[name] for name in names if name in notes)
        rows.append(
            (
                count + line.type,
                line.remarks,
                _times(line.input if len(line.input) > 1 else (1, 1, *line.input)),
                note,
            )
        )
    return align_columns(
        ("type", "patch/stride or remarks", "input size", "note" if table.notes else ""), rows
    )


MODULE_TYPES = ("Inception", "residual")


def _line(steps: Steps, shape: Shape, after: Shape) -> PaperRow:
    words = [word for word in flatten(steps) if not isinstance(word, Dropout)]
    types, remarks = [], []
    for word in words:
        match word:
            case vocabulary.Conv():
                types.append(
                    "conv padded" if word.padding != "valid" and word.kernel != (1, 1) else "conv"
                )
                remarks.append(
                    f"{_times(word.kernel)}/{word.stride[0]}"
                    + (" separable" if word.depth_multiplier else "")
                )
            case vocabulary.Pool():
                types.append("pool")
                remarks.append(
                    f"{_times(word.kernel)}/{word.stride[0]}" if word.kernel else _times(shape[:2])
                )
            case vocabulary.Concat() | vocabulary.Residual():
                types.append(MODULE_TYPES[isinstance(word, vocabulary.Residual)])
                remarks += [
                    f"as in {word.figure}" if word.figure else "",
                    "stride 2" if after[0] < shape[0] else "",
                ]
            case vocabulary.Linear():
                types.append("linear")
                remarks.append("logits" if word.features is None else str(word.features))
            case vocabulary.Softmax():
                types.append("softmax")
                remarks.append("classifier")
            case vocabulary.NormAct():
                types.append("norm")
            case vocabulary.LocalResponse():
                types.append("local response norm")
            case vocabulary.Layer():
                types.append(word.module.rpartition(":")[2])
    return PaperRow(" + ".join(types), ", ".join(filter(None, remarks)), shape)


def make_record(measured: Measurement) -> dict[str, Any]:
    """What `models --json` holds of one network and variant; counts are without auxiliary heads."""

    def picked(of: Any, names: str) -> dict[str, Any]:
        return {name: getattr(of, name) for name in names.split()}

    table = measured.architecture
    points = measured.end_points.items()
    return {
        **picked(table, "name variant input_size num_classes class_offset paper source"),
        **picked(measured, "parameters batch_stats aux_parameters multiply_adds receptive_field"),
        "depth": count_depth(table),
        "end_points": [
            {"name": name, **picked(place, "shape stride receptive_field activations")}
            for name, place in points
        ],
        "aux_end_points": {name: place.shape for name, place in measured.aux_end_points.items()},
        "notes": dict(table.notes),
    }


def format_layers(measured: Measurement) -> str:
    """A line for each row of the table, and the sums."""
    rows = [
        (
            row.path,
            row.kind,
            *map(_times, (row.kernel, row.stride, row.input, row.output.shape)),
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
    return f"{align_columns(header, rows)}\n{total}"


def _times(sizes: Sequence[int] | None) -> str:
    return "x".join(map(str, sizes)) if sizes else ""


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


RIGHT_ALIGNED_COLUMNS = {
    "parameters", "multiply-adds", "input", "receptive field", "crops", "models", "pixels", "top-1 error", "top-5 error", "measured here",
    "GFLOP", "MB", "ms", "share",
}  # fmt: skip
"""Columns that end at the same place."""


def align_columns(header: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> str:
    cells = [
        list(header),
        *([cell if isinstance(cell, str) else _number(cell) for cell in row] for row in rows),
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    put = [str.rjust if name in RIGHT_ALIGNED_COLUMNS else str.ljust for name in header]
    return "\n".join(
        "  ".join(
            at(cell, width) for at, cell, width in zip(put, line, widths, strict=True)
        ).rstrip()
        for line in cells
    )
