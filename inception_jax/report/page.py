"""A run on one page, or several: a single HTML file that names no other address."""

import base64
from collections.abc import Iterable, Mapping, Sequence
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
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2.5rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.score { font-size: 1.15rem; color: #c0392b } img { max-width: 100%; height: auto }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; font-variant-numeric: tabular-nums }
tr { border-bottom: 1px solid #eee } details { margin: .5rem 0 }
"""


def write_page(workdir: Path, pictures: Iterable[Path]) -> Path:
    """Writes what `workdir` holds to its `report/index.html`: scores, `pictures`, worst classes, the configuration, what it ran on."""
    rows, config, made, worst, _ = load_run_artifacts(workdir)
    scored = [row for row in rows if row.keys() >= {"val/top1", "val/top5", "val/loss"}]
    parts = [
        f"<h1>{escape(config.get('model', {}).get('name', workdir.name))}</h1>",
        f"<p>{escape(workdir.name)}</p>",
    ]
    if scored:
        last = scored[-1]
        best = max(scored, key=lambda row: row["val/top1"])
        parts.append(
            f'<p class="score">held-out top-1 {_top1(last)} at step {last["step"]:,.0f}; '
            f"the best was {best['val/top1']:.2%} at step {best['step']:,.0f}</p>"
        )
    parts += [_picture(picture) for picture in pictures if picture.suffix == ".png"]
    if scored:
        few = 0 < len(worst.get("class_names", ())) <= 5  # of which the five likeliest are all
        head = ("step", "top-1", *(() if few else ("top-5",)), "loss")
        evaluations = (
            (
                f"{r['step']:,.0f}",
                _top1(r),
                *(() if few else (f"{r['val/top5']:.2%}",)),
                f"{r['val/loss']:.4f}",
            )
            for r in scored
        )
        parts += ["<h2>Held-out scores</h2>", _table(head, evaluations)]
    if whole := sum((times := sum_seconds_by_kind(rows)).values()):
        lasted = (
            (kind, format_duration(seconds), f"{seconds / whole:.0%}")
            for kind, seconds in times.items()
        )
        parts += ["<h2>Where the time went</h2>", _table(("", "", "of the wall time"), lasted)]
    if "confusion" in worst:
        parts += [
            "<h2>Worst classes</h2>",
            _table(("class", "top-1", "held out", "most often taken for"), _classes(worst)),
        ]
    parts += [
        "<h2>Configuration</h2>",
        *(_details(name, value) for name, value in _sections(config)),
    ]
    if made:
        room = {
            name: value
            for name, value in made[-1].items()
            if name not in ("began", "ended", "outcome")
        }
        lines = (
            (
                str(one.get("began")),
                one.get("ended") or "",
                one.get("outcome") or "killed, or still running",
            )
            for one in made
        )
        parts += ["<h2>Attempts</h2>", _table(("began", "ended", "how"), lines)]
        parts += [
            "<h2>What it ran on</h2>",
            _table(("", ""), ((name, format_json(value)) for name, value in room.items())),
        ]
    return _page(
        f"{workdir.name}: {config.get('model', {}).get('name', 'a run')}",
        parts,
        workdir / "report" / "index.html",
    )


def write_comparison_page(
    found: Sequence[Curve], published: Mapping[str, Mapping[str, Any]], picture: Path, file: Path
) -> Path:
    """Writes several runs to `file`: their curves, and the steps that each needs to be as good as the first; see `comparison`."""
    explained = (
        "Seeds are the runs that differ in nothing else; of each figure the median, and its range in brackets. "
        f"The baseline's best is its highest mean of {SMOOTHING_WINDOW} evaluations less one standard error."
    )
    parts = [
        "<h1>Runs beside each other</h1>",
        _picture(picture),
        _table(*make_table_cells(compare_curves(found), published)),
        f"<p>{escape(explained)}</p>",
    ]
    return _page("Runs beside each other", parts, file)


def _page(title: str, parts: Iterable[str], file: Path) -> Path:
    body = "\n".join(parts)
    title = escape(title)
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n<style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )
    write_atomically(
        file, text.encode(errors="backslashreplace")
    )  # the name of a folder need not be text
    return file


def _top1(row: Mapping[str, float]) -> str:
    """With its 95 % interval, where the row says of how many examples it is."""
    return (
        format_with_interval(row["val/top1"], row["val/count"])
        if row.get("val/count")
        else f"{row['val/top1']:.2%}"
    )


def _classes(worst: Mapping[str, np.ndarray], most: int = 20) -> Iterable[Iterable[str]]:
    """The `most` classes of the lowest accuracy."""
    table, names = worst["confusion"], worst["class_names"]
    count = table.sum(1)
    right = np.diagonal(table) / np.maximum(count, 1)
    for i in [i for i in np.argsort(right, kind="stable") if count[i]][:most]:
        others = np.where(np.arange(len(names)) == i, 0, table[i])
        taken = f"{names[others.argmax()]} ({others.max()})" if others.any() else ""
        yield str(names[i]), f"{right[i]:.2%}", str(count[i]), taken


def _picture(file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<h2>{escape(file.stem.capitalize())}</h2>\n<img alt="{escape(file.stem)}" src="data:image/png;base64,{data}">'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _sections(config: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    yield "run", {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    yield from ((name, value) for name, value in config.items() if isinstance(value, Mapping))


def _details(name: str, fields: Mapping[str, Any]) -> str:
    rows = _table(
        ("field", "value"), ((field, format_json(value)) for field, value in fields.items())
    )
    return f"<details><summary>{escape(name)}</summary>{rows}</details>"
