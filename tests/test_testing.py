"""`docs/testing.md` names tests that there are, in the tier that they are in, and the default tier
holds what must not leave it.
"""

import ast
import os
import re

import pytest

from tests.conftest import OPTIMIZED_FLAGS, QUICK_FLAGS, ROOT

PAGE = (ROOT / "docs" / "testing.md").read_text()
ROW = re.compile(
    r"^\| (?P<promise>[^|]+) \| `(?P<file>[\w/]+\.py)`, `(?P<test>test_\w+)` \| (?P<tier>[a-z, ]+) "
    r"\| (?P<seconds>[^|]*) \|$",
    re.MULTILINE,
)
ROWS = [row.groupdict() for row in ROW.finditer(PAGE)]


def tier(file, test):
    """The tier that the marks of a test put it in."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    (function,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == test
    )
    around = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and function in node.body
    ]
    marks = [ast.unparse(mark) for node in (function, *around) for mark in node.decorator_list]
    whole = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    marks += [
        ast.unparse(mark)
        for value in whole
        for mark in (value.elts if isinstance(value, ast.List) else [value])
    ]
    if any("sweep(" in mark for mark in marks):
        return "default, rest nightly"
    tiers = {
        "pytest.mark.parity": "parity",
        "pytest.mark.nightly": "nightly",
        "pytest.mark.slow": "default",
    }
    return next((name for mark, name in tiers.items() if mark in marks), "fast")


def test_the_page_has_rows():
    assert len(ROWS) > 60
    assert len(ROWS) == PAGE.count(", `test_"), "a row has another form"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["test"])
def test_each_row_names_a_test_and_its_tier(row):
    assert row["tier"] == tier(row["file"], row["test"])


def test_a_process_that_opts_out_has_the_users_flags_alone():
    """In a worker too, which inherits the flags that its parent set for all tests."""
    assert QUICK_FLAGS in os.environ["XLA_FLAGS"]
    assert "xla_backend_optimization_level" not in OPTIMIZED_FLAGS
