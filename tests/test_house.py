"""What keeps the house small: tables that fit on a screen, an interpreter that fits in a head."""

import ast

import pytest

from tests.conftest import ROOT

TABLES = sorted((ROOT / "inception_jax" / "models").glob("*.py"))


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.name)
def test_no_model_table_is_longer_than_70_lines(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name != "claims":
            assert node.end_lineno - node.lineno < 70, node.name


def test_network_norm_and_pooling_together_stay_under_400_lines():
    files = [ROOT / "inception_jax" / "nn" / f"{name}.py" for name in ("network", "norm", "pooling")]
    assert sum(len(file.read_text().splitlines()) for file in files) < 400
