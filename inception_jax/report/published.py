"""The scores that papers and releases report, as data, and their comparison with own runs.

`published.json` has a row for each score: errors in percent, views of each image, the number of
networks, the image size in pixels, and the images that were scored (`val` is all 50,000 of
ImageNet; `val, 48,238` leaves out the blacklisted ones). The row of a recipe has the recipe's name
for a key.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inception_jax.report.tables import align_columns

PUBLISHED_FILE = Path(__file__).with_name("published.json")


def read_published() -> list[dict[str, Any]]:
    """Returns the rows of `published.json`, in the order of their papers."""
    return json.loads(PUBLISHED_FILE.read_text())


def format_published_comparison(
    rows: Iterable[Mapping[str, Any]], measured: Mapping[str, float]
) -> str:
    """Returns a table of published scores, with those of own runs.

    Args:
      rows: The published rows.
      measured: The top-1 error in percent of own runs, by the name of the recipe.
    """
    columns = {
        "crops": "crops",
        "models": "models",
        "pixels": "image_size",
        "images": "images",
        "top-1 error": "top1_error",
        "top-5 error": "top5_error",
    }
    header = ("key", "network", *columns, "measured here", "source (published)")
    lines = []
    for row in rows:
        values = [row[field] for field in columns.values()]
        cells = ["" if value is None else str(value) for value in values]
        own = f"{measured[row['key']]:.2f}" if row["key"] in measured else "not run"
        lines.append((row["key"], row["model"], *cells, own, row["source"]))
    return align_columns(header, lines)
