"""Checks that the README is true: its Python blocks, its table of networks and the package map.

`test_docs.py` checks the commands of the README together with those of the other pages.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inception_jax.models import get_architecture
from inception_jax.report.published import read_published
from inception_jax.spec.measure import measure
from tests.conftest import ROOT

BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
README = (ROOT / "README.md").read_text()
MAX_LINES = 200


def find_blocks(page: str) -> list[tuple[str, str, str]]:
    """Returns (language, tag, text) of each fenced block of a page."""
    return BLOCK.findall(page)


def find_runnable_blocks(page: str) -> list[tuple[str, str]]:
    """Returns (code, output) of each Python block with the tag `run`, whose output follows it."""
    blocks = find_blocks(page)
    runnable = [i for i, (kind, tag, _) in enumerate(blocks) if (kind, tag) == ("python", "run")]
    assert all(blocks[i + 1][0] == "text" for i in runnable), "a block has no output"
    return [(blocks[i][2], blocks[i + 1][2]) for i in runnable]


def run_python(arguments: list[str], folder: Path) -> str:
    """Returns the standard output of `python ARGUMENTS` in a folder."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("code", "output"), find_runnable_blocks(README))
def test_python_blocks_of_the_readme_print_the_output_below_them(code, output, tmp_path):
    assert run_python(["-c", code], tmp_path) == output


def test_the_readme_begins_with_the_commands_for_training_and_for_testing():
    assert [text.strip() for _, _, text in find_blocks(README)[:2]] == [
        "pip install -e '.[report]' && python train.py",
        "pip install -e '.[test]' && pytest",
    ]


def test_the_readme_has_at_most_200_lines():
    assert len(README.splitlines()) <= MAX_LINES


ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<parameters>[\d,]+) \| (?P<multiply_adds>[\d,]+) "
    r"\| (?P<input>\d+) \| (?P<top1>\S+), (?P<top5>\S+)(?: \(\S+\))? \|$",
    re.MULTILINE,
)
NETWORKS = [match.groupdict() for match in ROW.finditer(README.replace(" %", "%"))]


def test_the_table_of_networks_has_a_dozen_rows():
    table = README[README.index("## Networks") : README.index("## Pretrained weights")]
    assert len(NETWORKS) == 12
    assert table.count("\n| `") == len(NETWORKS), "a row has another form"


@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row["name"])
def test_a_row_of_the_table_has_the_measured_counts_and_the_published_accuracy(row):
    architecture = get_architecture(row["name"])
    measured = measure(architecture)
    assert row["parameters"] == f"{measured.parameters:,}"
    assert row["multiply_adds"] == f"{measured.multiply_adds:,}"
    assert row["input"] == str(architecture.input_size)
    (published,) = (entry for entry in read_published() if entry["key"] == row["name"])
    assert (published["crops"], published["models"]) == (1, 1)
    assert row["top1"] == _format_accuracy(published["top1_error"])
    assert row["top5"] == _format_accuracy(published["top5_error"])


def _format_accuracy(error: float | None) -> str:
    """Returns the accuracy that belongs to an error in percent."""
    return "–" if error is None else f"{100 - error:.6g}%"  # noqa: RUF001


def test_the_map_of_the_package_lists_exactly_what_exists():
    packages = {
        path.name
        for path in (ROOT / "inception_jax").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    files = {path.name for path in (ROOT / "inception_jax").glob("*.py")} - {"__init__.py"}
    page = (ROOT / "docs" / "architecture.md").read_text()
    map_ = page[page.index("train.py  configs/") : page.index("## A path through it")]
    assert {name for name in packages if f"  {name}/" not in map_} == set()
    assert {name for name in files if f"  {name}" not in map_} == set()
    for name in re.findall(r"^  (\w+)(?:/| |\.py)", map_, re.MULTILINE):
        assert name in packages or f"{name}.py" in files, name
