"""The shapes in the comments of the tables of `inception_jax/models`.

A row is an argument of a call of `table` or `stage_table` in these modules. Its last line ends in a
comment with the shape after it: `# 35 x 35 x 192` (height x width x channels) or `# 2048`; other
words may come before the shape. An argument `**rows` is a row too, with the shape after the last of
its end points. The shape is that of the first network that has the row, at its own input size: of
the default variants in the order of the registry, then of the others.
"""

import ast
import importlib
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from inception_jax.models import REGISTRY, get_architecture
from inception_jax.spec.measure import measure
from tests.conftest import ROOT

FUNCTIONS = ("table", "stage_table")
MODELS = ROOT / "inception_jax" / "models"
SHAPE = re.compile(r"#(?:.*? )?(\d+(?: x \d+ x \d+)?)$")


def list_entries():
    """Returns the (name, variant) of all networks, default variants first."""
    entries = [(name, variant) for name in REGISTRY for variant in REGISTRY[name]]
    return sorted(entries, key=lambda entry: entry[1] != next(iter(REGISTRY[entry[0]])))


def find_rows(path):
    """Yields (position of the call, the arguments that are its rows) for each table of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in FUNCTIONS
            and node.keywords
        ):
            yield (
                (node.lineno, node.col_offset),
                [row for row in node.keywords if not is_passed_on(row)],
            )


def is_passed_on(row):
    """Returns whether the row is the `**rows` of a function that makes tables."""
    return row.arg is None and isinstance(row.value, ast.Name)


def trace_tables(monkeypatch, build):
    """Returns (file, position) -> names of the end points, for each table that `build` makes."""
    tables = {}

    def wrap(function):
        def wrapper(*args, **rows):
            frame = sys._getframe(1)
            positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
            tables[Path(frame.f_code.co_filename), (positions[0], positions[2])] = list(rows)
            return function(*args, **rows)

        return wrapper

    with monkeypatch.context() as patch:
        for path in MODELS.glob("*.py"):
            module = importlib.import_module(f"inception_jax.models.{path.stem}")
            for name in FUNCTIONS:
                if name in vars(module):
                    patch.setattr(module, name, wrap(getattr(module, name)))
        architecture = build()
    return architecture, tables


def expand_rows(rows, names):
    """Yields each row with the names of its end points, of which `**rows` has any number."""
    names = list(names)
    for i, row in enumerate(rows):
        stop = 1
        if row.arg is None:
            following = rows[i + 1].arg if i + 1 < len(rows) else None
            stop = names.index(following) if following in names else len(names)
        yield row, names[:stop]
        names = names[stop:]


def format_shape(shape):
    return " x ".join(map(str, shape))


@pytest.fixture(scope="module")
def shapes():
    """Returns (file, last line of the row, row) -> shape after it, for all rows of networks."""
    result = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for entry in list_entries():
            architecture, tables = trace_tables(monkeypatch, partial(get_architecture, *entry))
            end_points = measure(architecture).end_points
            for path in {path for path, _ in tables}:
                for position, rows in find_rows(path):
                    for row, names in expand_rows(rows, tables.get((path, position), ())):
                        if names and names[-1] in end_points:
                            shape = format_shape(end_points[names[-1]].shape)
                            result.setdefault((path.name, row.value.end_lineno, row.arg), shape)
    return result


def check_comments(path, shapes):
    """Yields a message for each row whose comment is missing or wrong."""
    lines = path.read_text().splitlines()
    for _, rows in find_rows(path):
        for row in rows:
            line = row.value.end_lineno
            place = f"{path.name}:{line}: {row.arg or ast.unparse(row.value)}"
            comment = SHAPE.search(lines[line - 1])
            shape = shapes.get((path.name, line, row.arg))
            if shape is None:
                yield f"{place}: no network of the registry has this row"
            elif comment is None:
                yield f"{place}: end the line with the shape after the row: # {shape}"
            elif comment[1] != shape:
                yield f"{place}: the comment gives {comment[1]}, the network has {shape}"


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.py")), ids=lambda path: path.name)
def test_the_comment_of_each_table_row_gives_the_shape_after_it(path, shapes):
    assert list(check_comments(path, shapes)) == []


@pytest.mark.parametrize(
    ("comment", "mutation", "message"),
    [
        ("# 35 x 35 x 256", "# 35 x 35 x 288", "the comment gives 35 x 35 x 288"),
        ("# 35 x 35 x 256", "", "end the line with the shape after the row: # 35 x 35 x 256"),
        ("# 35 x 35 x 256", "# 35 x 35", "end the line with the shape|the comment gives 35,"),
        ("# 2048", "# 2047", "the comment gives 2047, the network has 2048"),
        ("Mixed_5b=", "Mixed_5x=", "no network of the registry has this row"),
    ],
)
def test_a_wrong_or_missing_shape_comment_is_found(comment, mutation, message, shapes, tmp_path):
    text = (MODELS / "inception_v3.py").read_text()
    assert comment in text
    path = tmp_path / "inception_v3.py"
    path.write_text(text.replace(comment, mutation, 1))
    (problem,) = check_comments(path, shapes)
    assert re.search(message, problem)


def test_the_tables_of_all_networks_have_comments(shapes):
    files = {file for file, _, _ in shapes}
    assert files == {
        "bn_inception.py", "cifar.py", "googlenet.py", "inception_resnet.py",
        "inception_v2_rethinking.py", "inception_v3.py", "inception_v4.py", "mnist.py", "resnet.py",
    }  # fmt: skip
