"""What the papers and the releases report, as data, and beside it what runs here scored.

`published.json` has a row for each figure: errors in percent, views of each image, networks, pixels, and the images that were
scored (`val` is all 50,000 of ImageNet; `val, 48,238` leaves out what is blacklisted). A recipe's row has the recipe's name.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inception_jax.report.tables import align_columns

PUBLISHED_FILE = Path(__file__).with_name("published.json")


def read_published() -> list[dict[str, Any]]:
    """The rows, in the order of their papers."""
    return json.loads(PUBLISHED_FILE.read_text())


def format_published_comparison(
    rows: Iterable[Mapping[str, Any]], measured: Mapping[str, float]
) -> str:
    """A table of `rows`; `measured` is the top-1 error in percent of the runs of recipes, by name."""
    lines = []
    for row in rows:
        ours = f"{measured[row['key']]:.2f}" if row["key"] in measured else "not run"
        numbers = [
            row[name]
            for name in ("crops", "models", "image_size", "images", "top1_error", "top5_error")
        ]
        lines.append(
            (
                row["key"],
                row["model"],
                *("" if value is None else str(value) for value in numbers),
                ours,
                row["source"],
            )
        )
    head = (
        "key",
        "network",
        "crops",
        "models",
        "pixels",
        "images",
        "top-1 error",
        "top-5 error",
        "measured here",
        "source (published)",
    )
    return align_columns(head, lines)
