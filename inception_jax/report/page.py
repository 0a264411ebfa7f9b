"""Reports as a page: a single HTML file that refers to no other address."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.atomic_io import format_json, write_atomically
from inception_jax.evaluation.confidence import format_with_interval
from inception_jax.monitoring.progress import format_duration
from inception_jax.monitoring.wall_time import sum_seconds_by_kind
from inception_jax.report.artifacts import load_run_artifacts
from inception_jax.report.comparison import (
    SMOOTHING_WINDOW,
    Curve,
    compare_curves,
    make_table_cells,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2.5rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.score { font-size: 1.15rem; color: #c0392b } img { max-width: 100%; height: auto }
table { border-collapse: collapse }
td, th { padding: .15rem .9rem .15rem 0; text-align: left; font-variant-numeric: tabular-nums }
tr { border-bottom: 1px solid #eee } details { margin: .5rem 0 }
"""
MAX_WORST_CLASSES = 20

TableRow = Mapping[str, float]


def write_page(workdir: Path, pictures: Iterable[Path]) -> Path:
    """Writes the report on a run to `workdir/report/index.html`.

    It has scores, `pictures`, wall time, worst classes, the configuration, and the attempts with
    their environment.

    Raises:
      ConfigError, MetricsError, UnreadableError: See `load_run_artifacts`.
      StorageError: The file cannot be written.
    """
    rows, config, attempts, worst, _ = load_run_artifacts(workdir)
    scored = [row for row in rows if row.keys() >= {"val/top1", "val/top5", "val/loss"}]
    model = config.get("model", {}).get("name")
    parts = [f"<h1>{escape(model or workdir.name)}</h1>", f"<p>{escape(workdir.name)}</p>"]
    if scored:
        parts.append(_format_score(scored))
    parts += [format_picture(picture) for picture in pictures if picture.suffix == ".png"]
    if scored:
        has_few_classes = 0 < len(worst.get("class_names", ())) <= 5  # top-5 is always 100 %
        table = _format_evaluations(scored, with_top5=not has_few_classes)
        parts += ["<h2>Held-out scores</h2>", table]
    seconds_by_kind = sum_seconds_by_kind(rows)
    if total := sum(seconds_by_kind.values()):
        lines = [
            (kind, format_duration(seconds), f"{seconds / total:.0%}")
            for kind, seconds in seconds_by_kind.items()
        ]
        parts += [
            "<h2>Where the time went</h2>",
            format_table(("", "", "of the wall time"), lines),
        ]
    if "confusion" in worst:
        header = ("class", "top-1", "held out", "most often taken for")
        parts += ["<h2>Worst classes</h2>", format_table(header, _iterate_worst_classes(worst))]
    parts.append("<h2>Configuration</h2>")
    parts += [_format_details(name, fields) for name, fields in _iterate_sections(config)]
    if attempts:
        parts += _format_attempts(attempts)
    title = f"{workdir.name}: {model or 'a run'}"
    return write_html(title, parts, workdir / "report" / "index.html")


def write_comparison_page(
    curves: Sequence[Curve], published: Mapping[str, Mapping[str, Any]], picture: Path, file: Path
) -> Path:
    """Writes the comparison of several runs to `file`: their curves and the table of speed-ups.

    Args:
      curves: The curves of the runs, the baseline first.
      published: The rows of `published.json` by key.
      picture: The drawn curves.
      file: The HTML file to write.
    """
    explanation = (
        "Seeds are the runs that differ in nothing else; each number is their median, with the "
        "range in brackets. The baseline's best is its highest mean of "
        f"{SMOOTHING_WINDOW} evaluations less one standard error."
    )
    title = "Comparison of runs"
    parts = [
        f"<h1>{title}</h1>",
        format_picture(picture),
        format_table(*make_table_cells(compare_curves(curves), published)),
        f"<p>{escape(explanation)}</p>",
    ]
    return write_html(title, parts, file)


def write_html(title: str, parts: Iterable[str], file: Path) -> Path:
    """Writes parts of a page, in HTML, as one file."""
    body = "\n".join(parts)
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
    # The name of a folder need not be valid UTF-8.
    write_atomically(file, text.encode(errors="backslashreplace"))
    return file


def _format_score(scored: Sequence[TableRow]) -> str:
    last, best = scored[-1], max(scored, key=lambda row: row["val/top1"])
    return (
        f'<p class="score">held-out top-1 {_format_top1(last)} at step {last["step"]:,.0f}; '
        f"the best was {best['val/top1']:.2%} at step {best['step']:,.0f}</p>"
    )


def _format_evaluations(scored: Iterable[TableRow], *, with_top5: bool) -> str:
    header = ["step", "top-1", "top-5", "loss"]
    lines = [
        [
            f"{row['step']:,.0f}",
            _format_top1(row),
            f"{row['val/top5']:.2%}",
            f"{row['val/loss']:.4f}",
        ]
        for row in scored
    ]
    if not with_top5:
        for line in (header, *lines):
            del line[2]
    return format_table(header, lines)


def _format_attempts(attempts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a table of the attempts, and the environment of the last."""
    lines = [
        (
            str(attempt.get("began")),
            attempt.get("ended") or "",
            attempt.get("outcome") or "killed, or still running",
        )
        for attempt in attempts
    ]
    environment = [
        (name, format_json(value))
        for name, value in attempts[-1].items()
        if name not in ("began", "ended", "outcome")
    ]
    return [
        "<h2>Attempts</h2>",
        format_table(("began", "ended", "how"), lines),
        "<h2>Environment</h2>",
        format_table(("", ""), environment),
    ]


def _format_top1(row: TableRow) -> str:
    """Returns the held-out top-1, with its 95 % interval if the number of examples is known."""
    if row.get("val/count"):
        return format_with_interval(row["val/top1"], row["val/count"])
    return f"{row['val/top1']:.2%}"


def _iterate_worst_classes(worst: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
    """Yields a line for each of the classes with the lowest accuracy."""
    confusion, names = worst["confusion"], worst["class_names"]
    counts = confusion.sum(1)
    accuracy = np.diagonal(confusion) / np.maximum(counts, 1)
    order = [i for i in np.argsort(accuracy, kind="stable") if counts[i]]
    for i in order[:MAX_WORST_CLASSES]:
        errors = np.where(np.arange(len(names)) == i, 0, confusion[i])
        taken_for = f"{names[errors.argmax()]} ({errors.max()})" if errors.any() else ""
        yield str(names[i]), f"{accuracy[i]:.2%}", str(counts[i]), taken_for


def format_picture(file: Path) -> str:
    """Returns a PNG file as a part of a page, under its name."""
    data, name = base64.b64encode(file.read_bytes()).decode(), escape(file.stem)
    return (
        f"<h2>{escape(file.stem.capitalize())}</h2>\n"
        f'<img alt="{name}" src="data:image/png;base64,{data}">'
    )


def format_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table as a part of a page."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _iterate_sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "run", {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    yield from ((name, value) for name, value in config.items() if isinstance(value, Mapping))


def _format_details(name: str, fields: Mapping[str, Any]) -> str:
    rows = [(field, format_json(value)) for field, value in fields.items()]
    table = format_table(("field", "value"), rows)
    return f"<details><summary>{escape(name)}</summary>{table}</details>"
