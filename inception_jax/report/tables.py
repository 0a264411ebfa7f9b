"""The networks as tables of text, in the layout of the papers, and as records for programs."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from inception_jax.spec import vocabulary
from inception_jax.spec.depth import count_depth
from inception_jax.spec.measure import Measurement
from inception_jax.spec.vocabulary import Dropout, Shape, Steps, Word, flatten

MODULE_TYPES = ("Inception", "residual")

RIGHT_ALIGNED_COLUMNS = {
    "parameters", "multiply-adds", "input", "receptive field", "crops", "models", "pixels",
    "top-1 error", "top-5 error", "measured here", "GFLOP", "MB", "ms", "share",
}  # fmt: skip


def format_family(measured: Iterable[Measurement]) -> str:
    """Returns a table with a line for each network and variant."""
    header = (
        "model",
        "variant",
        "input",
        "parameters",
        "multiply-adds",
        "receptive field",
        "paper",
        "source",
    )
    rows = [
        (
            item.architecture.name,
            item.architecture.variant,
            item.architecture.input_size,
            item.parameters,
            item.multiply_adds,
            item.receptive_field[0],
            item.architecture.paper,
            item.architecture.source,
        )
        for item in measured
    ]
    return align_columns(header, rows)


class PaperRow(NamedTuple):
    """One line of a paper's table.

    Attributes:
      type: The kind of layer: `conv`, `pool`, `Inception`.
      remarks: Patch size and stride, or remarks.
      input: The shape of the input.
    """

    type: str
    remarks: str
    input: Shape


def format_paper_table(measured: Measurement) -> str:
    """Returns the table of a network in the layout of the papers.

    The columns are type, patch size/stride or remarks, and input size. Equal modules share a line.
    """
    architecture = measured.architecture
    shape = measured.rows[0].input
    lines: list[tuple[PaperRow, str, Shape]] = []
    for name, steps in architecture.layers:
        before, shape = shape, measured.end_points[name].shape
        if any(not isinstance(word, Dropout) for word in flatten(steps)):
            lines.append((_make_paper_row(steps, before, shape), name, shape))
    notes = dict(architecture.notes)
    rows: list[tuple[str, str, str, str]] = []
    for _, group in groupby(lines, key=_get_group_key):
        rows_and_names = [(row, name) for row, name, _ in group]
        first = rows_and_names[0][0]
        count = f"{len(rows_and_names)} x " if len(rows_and_names) > 1 else ""
        input_shape = first.input if len(first.input) > 1 else (1, 1, *first.input)
        note = "; ".join(notes[name] for _, name in rows_and_names if name in notes)
        rows.append((count + first.type, first.remarks, _format_sizes(input_shape), note))
    last_column = "note" if architecture.notes else ""
    return align_columns(("type", "patch/stride or remarks", "input size", last_column), rows)


def _get_group_key(line: tuple[PaperRow, str, Shape]) -> tuple[Any, ...]:
    """Returns a key that is equal for equal modules, and unique for any other layer."""
    row, _, output_shape = line
    return (row.type, row.remarks, output_shape) if row.type in MODULE_TYPES else line


def _make_paper_row(steps: Steps, shape: Shape, output_shape: Shape) -> PaperRow:
    words = [word for word in flatten(steps) if not isinstance(word, Dropout)]
    described = [_describe_word(word, shape, output_shape) for word in words]
    types = [word_type for word_type, _ in described if word_type]
    remarks = [remark for _, word_remarks in described for remark in word_remarks if remark]
    return PaperRow(" + ".join(types), ", ".join(remarks), shape)


def _describe_word(word: Word, shape: Shape, output_shape: Shape) -> tuple[str, list[str]]:
    """Returns the type and the remarks of one word of a network."""
    match word:
        case vocabulary.Conv():
            is_padded = word.padding != "valid" and word.kernel != (1, 1)
            separable = " separable" if word.depth_multiplier else ""
            patch = f"{_format_sizes(word.kernel)}/{word.stride[0]}{separable}"
            return "conv padded" if is_padded else "conv", [patch]
        case vocabulary.Pool():
            if not word.kernel:
                return "pool", [_format_sizes(shape[:2])]
            return "pool", [f"{_format_sizes(word.kernel)}/{word.stride[0]}"]
        case vocabulary.Concat() | vocabulary.Residual():
            figure = f"as in {word.figure}" if word.figure else ""
            stride = "stride 2" if output_shape[0] < shape[0] else ""
            return MODULE_TYPES[isinstance(word, vocabulary.Residual)], [figure, stride]
        case vocabulary.Linear():
            return "linear", ["logits" if word.features is None else str(word.features)]
        case vocabulary.Softmax():
            return "softmax", ["classifier"]
        case vocabulary.NormAct():
            return "norm", []
        case vocabulary.LocalResponse():
            return "local response norm", []
        case vocabulary.Layer():
            return word.module.rpartition(":")[2], []
    return "", []


def make_record(measured: Measurement) -> dict[str, Any]:
    """Returns the record of a network in `models --json`; counts are without auxiliary heads."""

    def select(item: Any, names: str) -> dict[str, Any]:
        return {name: getattr(item, name) for name in names.split()}

    architecture = measured.architecture
    fields = "name variant input_size num_classes class_offset paper source"
    counts = "parameters batch_stats aux_parameters multiply_adds receptive_field"
    end_point = "shape stride receptive_field activations"
    return {
        **select(architecture, fields),
        **select(measured, counts),
        "depth": count_depth(architecture),
        "end_points": [
            {"name": name, **select(place, end_point)}
            for name, place in measured.end_points.items()
        ],
        "aux_end_points": {name: place.shape for name, place in measured.aux_end_points.items()},
        "notes": dict(architecture.notes),
    }


def format_layers(measured: Measurement) -> str:
    """Returns a table with a line for each layer of a network, and the sums."""
    header = ("layer", "kind", "kernel", "stride", "input", "output", "parameters", "multiply-adds")
    rows = [
        (
            row.path,
            row.kind,
            *map(_format_sizes, (row.kernel, row.stride, row.input, row.output.shape)),
            row.parameters,
            row.multiply_adds,
        )
        for row in measured.rows
    ]
    architecture = measured.architecture
    total = (
        f"{architecture.name} ({architecture.variant}): {_format_count(measured.parameters)} "
        f"parameters, {_format_count(measured.batch_stats)} statistics, "
        f"{_format_count(measured.multiply_adds)} multiply-adds; source: {architecture.source}"
    )
    return f"{align_columns(header, rows)}\n{total}"


def _format_sizes(sizes: Sequence[int] | None) -> str:
    return "x".join(map(str, sizes)) if sizes else ""


def _format_count(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def align_columns(header: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> str:
    """Returns a table of text, one line for the header and for each row.

    Columns of `RIGHT_ALIGNED_COLUMNS` are aligned to the right, others to the left. An integer gets
    separators of thousands; None becomes `unknown`.
    """
    lines = [list(header)]
    for row in rows:
        lines.append([cell if isinstance(cell, str) else _format_count(cell) for cell in row])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligns = [str.rjust if name in RIGHT_ALIGNED_COLUMNS else str.ljust for name in header]
    text = []
    for line in lines:
        cells = [
            align(cell, width) for align, cell, width in zip(aligns, line, widths, strict=True)
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
