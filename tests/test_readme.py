"""The README does what it says: its blocks run, in order and in one folder, and print what stands below them."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
README = (ROOT / "README.md").read_text()
BLOCKS = [match.groups() for match in BLOCK.finditer(README)]
RUNS = [(index, kind, code) for index, (kind, tag, code) in enumerate(BLOCKS) if tag == "run"]


def run(arguments, folder):
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("index", [index for index, kind, _ in RUNS if kind == "python"])
def test_python_blocks_of_the_readme_print_the_output_below_them(index, tmp_path):
    assert BLOCKS[index + 1][0] == "text"
    assert run([sys.executable, "-c", BLOCKS[index][2]], tmp_path) == BLOCKS[index + 1][2]


@pytest.mark.slow
def test_commands_of_the_readme_end_with_the_line_that_is_shown(tmp_path):
    for kind, tag, code in BLOCKS:
        if tag.startswith("file="):
            (tmp_path / tag.removeprefix("file=")).write_text(code)
        if (kind, tag) == ("console", "run"):
            command, last = code.splitlines()
            arguments = command.removeprefix("$ inception-jax ").split()
            out = run([sys.executable, "-m", "inception_jax.cli", *arguments], tmp_path)
            assert out.splitlines()[-1].startswith(last)


def test_the_readme_begins_with_the_commands_for_training_and_for_testing():
    assert [BLOCKS[0][2].strip(), BLOCKS[1][2].strip()] == [
        "pip install -e '.[report]' && python train.py",
        "pip install -e '.[test]' && pytest",
    ]


def test_the_map_of_the_package_in_the_readme_lists_exactly_what_exists():
    packages = {
        path.name
        for path in (ROOT / "inception_jax").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    files = {path.name for path in (ROOT / "inception_jax").glob("*.py")} - {"__init__.py"}
    map_ = README[README.index("train.py  configs/") : README.index("A path through it")]
    assert {name for name in packages if f"  {name}/" not in map_} == set()
    assert {name for name in files if f"  {name}" not in map_} == set()
    for name in re.findall(r"^  (\w+)(?:/| |\.py)", map_, re.MULTILINE):
        assert name in packages or f"{name}.py" in files, name
