"""Limits of size: tables that fit on a screen, and a short package of networks."""

import ast

import pytest

from tests.conftest import ROOT
from tests.lines import count_by_package

TABLES = sorted((ROOT / "inception_jax" / "models").glob("*.py"))


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.name)
def test_no_model_table_is_longer_than_70_lines(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 70, node.name


def test_nn_stays_under_612_code_lines_and_its_operations_for_gpus_under_350():
    """Version 0.1 had 450 lines of up to 140 characters, which the formatter makes 651 of 100."""
    packages = count_by_package(ROOT / "inception_jax")
    gpu = count_by_package(ROOT / "inception_jax" / "nn")["gpu"]
    assert gpu <= 350
    assert packages["nn"] - gpu <= 612
