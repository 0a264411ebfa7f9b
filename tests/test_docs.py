"""Checks the documentation: its commands, its blocks with their output, its links.

A command is a line of a `bash` or `console` block in README.md, CONTRIBUTING.md or docs/, or a
launcher's command in the text. It is in `RUN`, and a test below runs it on a tiny network, or in
`NOT_RUN` with the reason.
"""

import ast
import os
import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from benchmarks.small_networks import LINE
from inception_jax.cli import COMMANDS, main
from tests.conftest import ROOT
from tests.test_readme import README, find_blocks, find_runnable_blocks, run_python

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
PROGRAMS = (
    "inception-jax", "python", "pip", "pytest", "ruff", "mypy", "lint-imports", "sbatch", "mpirun",
    "kubectl", "launch/",
)  # fmt: skip
"""What a command begins with, behind its environment variables."""
LAUNCHERS = ("launch/", "sbatch", "mpirun", "kubectl", "python train.py")
"""Of them those whose commands also count within the text, as in a table."""
VARIABLES = re.compile(r"""^(?:[A-Z_]+=(?:"[^"]*"|\S+) )+""")

RUN = (
    "inception-jax data check digits",
    "inception-jax data show digits",
    "inception-jax evaluate runs/digits --per-class",
    "inception-jax export runs/digits --pixels --output digits.stablehlo",
    "inception-jax export runs/digits --to onnx --output digits.onnx",
    "inception-jax features runs/digits runs/digits/report/example.png",
    "inception-jax models",
    "inception-jax models '*resnet*' --json",
    "inception-jax models inception_v2_rethinking",
    "inception-jax plan digits",
    "inception-jax predict runs/digits runs/digits/report/example.png",
    "inception-jax recipes",
    "inception-jax report --published",
    "inception-jax report runs/digits",
    "inception-jax train digits --help",
    "inception-jax weights list '*inception_v3*'",
    "inception-jax weights list '*resnet50*'",
)
"""Commands that `test_a_command_of_the_documentation_ends_with_0` runs."""

NOT_RUN = {
    "pip install *": "installs packages; .ci/run gives the one of the README",
    "pytest": "is this run",
    "pytest *": "is this run, or another tier",
    "ruff *": "run by .ci/run",
    "mypy": "run by .ci/run",
    "lint-imports --no-logo": "run by tests/test_import.py",
    "python train.py": "tests/test_newcomer.py runs it with a small network",
    "python train.py --epochs 40": "tests/test_newcomer.py continues a complete run",
    "python train.py inception_v3 *": "needs ImageNet",
    "inception-jax train digits --epochs 40": "tests/test_newcomer.py continues a complete run",
    "inception-jax train stripes --import stripes": "run by the test of console blocks below",
    "inception-jax train photos --data.directory photos": "tests/test_recipes.py does it smaller",
    "inception-jax train digits --data.name *": "tests/data and tests/test_cli.py train on folders",
    "inception-jax train mnist_bn --data.name idx *": "needs MNIST; tests/data/test_idx.py",
    "inception-jax data prepare DIRECTORY records": "needs MNIST; tests/data/test_idx.py",
    "inception-jax data prepare photos records": "needs a folder of photographs",
    "inception-jax data prepare imagenet2012": "needs ImageNet",
    "inception-jax data benchmark digits": "times the machine; tests/debugging runs it shorter",
    "inception-jax benchmark digits": "compiles for a minute; tests/commands/test_benchmark.py",
    "inception-jax plan digits --compile": "compiles for a minute; tests/plan compiles less",
    "inception-jax plan inception_v3 --topology *": "needs a plugin; tests/plan has smaller ones",
    "inception-jax fid *": "needs the network of FID; tests/commands/test_fid.py has each form",
    "inception-jax convert *": "needs weights of torchvision; tests/weights/test_convert.py",
    "inception-jax predict v3.safetensors *": "needs weights of torchvision",
    "inception-jax * timm/*": "downloads; tests/weights/test_hub.py has a hub of its own",
    "inception-jax export v3.safetensors *": "needs weights of torchvision",
    "inception-jax evaluate torchvision/*": "downloads, and needs ImageNet",
    "inception-jax predict hf-hub:owner/name *": "downloads; tests/weights/test_hub.py",
    "inception-jax predict photos.safetensors *": "needs a folder of photographs",
    "inception-jax verify v3.safetensors": "needs weights of torchvision",
    "inception-jax evaluate runs/digits --data photos *": "needs a folder of photographs",
    "inception-jax evaluate runs/a *": "needs a run; tests/commands/test_trained.py has each flag",
    "inception-jax evaluate runs/inception_v3_ensemble *": "needs ImageNet",
    "inception-jax report runs/inception *": "needs three runs; tests/report/test_comparison.py",
    "inception-jax report --published runs/bn_x5": "needs ImageNet",
    "sbatch *": "needs Slurm; tests/launch/test_scripts.py runs the scripts with stubs",
    "TPU=name *": "needs a TPU; tests/launch/test_scripts.py runs the scripts with stubs",
    "QUEUED=1 launch/tpu_pod.sh": "needs TPUs; tests/launch/test_scripts.py runs it with stubs",
    "HOSTS=* launch/ssh.sh *": "needs hosts; tests/launch/test_scripts.py runs it with stubs",
    "launch/*.sh python train.py *": "needs ImageNet; tests/launch/test_scripts.py",
    "kubectl *": "needs Kubernetes",
    "mpirun *": "needs Open MPI and several hosts",
}
"""Command, or a pattern of commands -> why no test runs it."""


def find_commands(page: str) -> list[str]:
    """Returns the commands of a page, without comments, with continued lines joined.

    Raises:
      ValueError: A line of a block of commands is none.
    """
    commands = []
    for kind, _, text in find_blocks(page):
        lines = text.replace("\\\n", " ").splitlines()
        if kind == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif kind not in ("bash", "sh"):
            if any(line.startswith("$ ") for line in lines):
                raise ValueError(f"a block {kind!r} has commands: make it a console block")
            continue
        for line in lines:
            command = " ".join(re.sub(r"\s+# .*$", "", line).split())
            if command and not VARIABLES.sub("", command).startswith(PROGRAMS):
                raise ValueError(f"{line!r} begins with no known program")
            commands += [part for part in command.split(" && ") if part]
    spans = re.findall(r"`([^`\n]+)`", remove_blocks(page))
    return commands + [s for s in spans if VARIABLES.sub("", s).startswith(LAUNCHERS) and " " in s]


def remove_blocks(page: str) -> str:
    """Returns a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)


COMMANDS_OF_PAGES = {name: find_commands(page) for name, page in PAGES.items()}
ALL_COMMANDS = sorted({command for found in COMMANDS_OF_PAGES.values() for command in found})


@pytest.mark.parametrize("name", COMMANDS_OF_PAGES)
def test_each_command_of_a_page_is_run_or_listed_with_a_reason(name):
    unknown = [
        command
        for command in COMMANDS_OF_PAGES[name]
        if command not in RUN and not any(fnmatchcase(command, entry) for entry in NOT_RUN)
    ]
    assert unknown == []


def test_the_lists_of_commands_have_no_entry_that_no_page_has():
    assert [command for command in RUN if command not in ALL_COMMANDS] == []
    rest = [command for command in ALL_COMMANDS if command not in RUN]
    assert [entry for entry in NOT_RUN if not any(fnmatchcase(c, entry) for c in rest)] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a tiny run in `runs/digits`."""
    folder = tmp_path_factory.mktemp("docs")
    assert _run_command(folder, "train", *LINE, "--steps", "2", "--workdir", "runs/digits") == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_command_of_the_documentation_ends_with_0(command, folder):
    program, *arguments = shlex.split(command)
    assert program == "inception-jax"
    assert _run_command(folder, *arguments) == 0


def _run_command(folder: Path, *arguments: str) -> int:
    """Returns the exit code of `inception-jax ARGUMENTS`, run in this process and that folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    finally:
        os.chdir(before)


OUTSIDE_README = [
    pytest.param(code, output, id=f"{name}-{i}")
    for name, page in PAGES.items()
    if page != README
    for i, (code, output) in enumerate(find_runnable_blocks(page))
]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "output"), OUTSIDE_README)
def test_python_blocks_of_the_pages_print_the_output_below_them(code, output, capsys):
    exec(code, {})
    assert capsys.readouterr().out == output


@pytest.mark.slow
def test_console_blocks_of_the_pages_end_with_the_line_that_is_shown(tmp_path):
    blocks = [block for page in PAGES.values() for block in find_blocks(page)]
    shown = [text for kind, tag, text in blocks if (kind, tag) == ("console", "run")]
    for _, tag, text in blocks:
        if tag.startswith("file="):
            (tmp_path / tag.removeprefix("file=")).write_text(text)
    assert shown
    for text in shown:
        command, last = text.splitlines()
        arguments = shlex.split(command.removeprefix("$ inception-jax "))
        output = run_python(["-m", "inception_jax.cli", *arguments], tmp_path)
        assert output.splitlines()[-1].startswith(last)


def test_python_blocks_that_are_not_run_are_valid_python():
    for page in PAGES.values():
        for kind, _, text in find_blocks(page):
            if kind == "python":
                ast.parse(text)


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_scripts_in_the_text_of_a_page_exist(name):
    page = PAGES[name]
    named = set(re.findall(r"`inception-jax ([a-z]+)\b", remove_blocks(page)))
    assert named - set(COMMANDS) == set()
    paths = set(
        re.findall(
            r"\b((?:benchmarks|examples|experiments|launch|tests|configs)/[\w/]+\.\w+)", page
        )
    )
    roots = (ROOT, ROOT / "tests")  # docs/testing.md names tests below the latter
    assert {path for path in paths if not any((root / path).exists() for root in roots)} == set()
    modules = set(re.findall(r"`(inception_jax/[\w/.]+\.\w+)`", page))
    assert {path for path in modules if not (ROOT / path).exists()} == set()


FAULT_FILE = re.compile(r"`(?:tests/)?([\w/]*test_\w+\.py)`")


def test_the_tests_that_the_page_of_faults_names_exist():
    page = PAGES["docs/faults.md"]
    files = {file: (ROOT / "tests" / file).read_text() for file in FAULT_FILE.findall(page)}
    assert len(files) > 30
    for row in page.splitlines():
        texts = [files[file] for file in FAULT_FILE.findall(row)]
        for name in re.findall(r"`(test_\w+)`", row):
            assert any(f"def {name}(" in text for text in texts), name


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_to_files_and_headings(name):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / name).parent / file) if file else ROOT / name
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in [_make_anchor(heading) for heading in headings], target


def _make_anchor(heading: str) -> str:
    """Returns the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_links_every_page():
    links = re.findall(r"\]\((\w+\.md)(?:#[^)]*)?\)", PAGES["docs/index.md"])
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert set(links) == pages
    assert len(links) == len(pages), "a page is linked twice"


MAX_READING_FILES, MAX_READING_LINES = 8, 600
ENTRY = re.compile(r"^\d+\. `([\w/.]+)`(?:: (.*))?$", re.MULTILINE)


def test_the_reading_path_has_at_most_8_files_and_600_lines():
    page = PAGES["CONTRIBUTING.md"]
    section = page[page.index("## A reading path") : page.index("## House rules")]
    entries = ENTRY.findall(section)
    assert 1 < len(entries) <= MAX_READING_FILES
    assert len(entries) == len(re.findall(r"^\d+\. ", section, re.MULTILINE)), "another form"
    lines = sum(
        _count_lines(ROOT / file, re.findall(r"`([\w.]+)`", names)) for file, names in entries
    )
    assert lines <= MAX_READING_LINES


def _count_lines(file: Path, names: list[str]) -> int:
    """Returns the number of lines of functions and classes (`fit`, `Run.train_step`) of a file.

    Without names it is that of the whole file. Decorators count.
    """
    if not names:
        return len(file.read_text().splitlines())
    total = 0
    for name in names:
        node: ast.AST = ast.parse(file.read_text())
        for part in name.split("."):
            (node,) = (
                child
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == part
            )
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        total += node.end_lineno - first + 1
    return total
