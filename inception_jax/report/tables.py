"""The networks as tables of text, printed as the papers print them."""

from collections.abc import Iterable, Sequence

from inception_jax.spec.measure import Measurement


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
            m.architecture.source,
        )
        for m in measured
    ]
    return _aligned(("model", "variant", "input", "parameters", "multiply-adds", "sees", "source"), rows)


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
    return f"{_aligned(header, rows)}\n{total}"


def _times(sizes: Sequence[int] | None) -> str:
    return "x".join(map(str, sizes)) if sizes else ""


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _aligned(header: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> str:
    cells = [list(header), *([cell if isinstance(cell, str) else _number(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    right = [header[i] in ("parameters", "multiply-adds", "input", "sees") for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)
