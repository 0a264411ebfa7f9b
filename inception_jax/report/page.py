"""A run on one page: a single HTML file that names no other address."""

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from inception_jax.logbook import read_metrics

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2.5rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.score { font-size: 1.15rem; color: #c0392b } img { max-width: 100%; height: auto }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; font-variant-numeric: tabular-nums }
tr { border-bottom: 1px solid #eee } details { margin: .5rem 0 }
"""


def write(workdir: Path, pictures: Iterable[Path], file: Path) -> Path:
    """Writes what `workdir` holds to `file`: scores, `pictures`, the configuration and what it ran on."""
    rows = read_metrics(workdir)
    config = json.loads((workdir / "experiment.json").read_text()) if (workdir / "experiment.json").exists() else {}
    room = json.loads((workdir / "run.json").read_text()) if (workdir / "run.json").exists() else {}
    scored = [row for row in rows if "val/top1" in row]
    parts = [f"<h1>{escape(config.get('model', {}).get('name', workdir.name))}</h1>", f"<p>{escape(workdir.name)}</p>"]
    if scored:
        last = scored[-1]
        best = max(scored, key=lambda row: row["val/top1"])
        parts.append(
            f'<p class="score">held-out top-1 {last["val/top1"]:.2%} at step {last["step"]:,.0f}; '
            f"the best was {best['val/top1']:.2%} at step {best['step']:,.0f}</p>"
        )
    parts += [_picture(picture) for picture in pictures if picture.suffix == ".png"]
    if scored:
        head = ("step", "top-1", "top-5", "loss")
        cells = ((f"{r['step']:,.0f}", f"{r['val/top1']:.2%}", f"{r['val/top5']:.2%}", f"{r['val/loss']:.4f}") for r in scored)
        parts += ["<h2>Held-out scores</h2>", _table(head, cells)]
    parts += ["<h2>Configuration</h2>", *(_details(name, value) for name, value in _sections(config))]
    parts += ["<h2>What it ran on</h2>", _table(("", ""), ((name, json.dumps(value)) for name, value in room.items()))]
    body = "\n".join(parts)
    title = escape(f"{workdir.name}: {config.get('model', {}).get('name', 'a run')}")
    file.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n<style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )
    return file


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
    rows = _table(("field", "value"), ((field, json.dumps(value)) for field, value in fields.items()))
    return f"<details><summary>{escape(name)}</summary>{rows}</details>"
