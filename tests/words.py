"""Checks the words of the package: `python -m tests.words` prints each finding as file:line: text.

The rules: one public name has one meaning; a docstring begins with a full sentence, and that of a
function with a verb; no name of version 0.1 that was private to this project comes back; lines have
at most 100 characters.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "inception_jax"
MAX_LINE = 100

ALLOWED_REPETITIONS = {
    "Arrays": "the alias of arrays by name, in the readers of each format",
    "create": "the function, and the module that holds it",
    "evaluate": "the command, and the function for Python that it is named after",
    "features": "the command, and the module of features",
    "Item": "the type variable of generators",
}
"""Public name -> why it may be defined in more than one module."""
TABLES = PACKAGE / "models", PACKAGE / "weights" / "convert" / "sources"
"""Folders whose modules have the same names for the same parts: `stem`, `paper`, `MODELS`."""


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


OLD_NAMES = _split("""
    accumulated draw follow with_l2 law laws turned near halve full f Sight Ruler smallest
    demand maximum_first project_first join_siblings one_pass compare_maxima spread whole lay_out
    leads agreed everything arranged Tally tally take Timesheet timesheet book leaves join part
    parting survey within begin_from borrow told said describe say child ask room held rollcall
    rendezvous peers sound note amend seal UNWANTED farewell hold look origin projects peer
    importing exporting trained fed line taken named stand_in lasting shift stretch turn slant
    by_height in_an_order quiet observing Health growth safety faults
""")
"""The left column of the table of renames, as public names of the package."""
OLD_IDENTIFIERS = _split("""
    slope told tally timesheet rollcall rendezvous lay_out farewell parting stand_in begin_from
""")
"""Identifiers that are nowhere, local ones included."""
BARE_NAMES = _split("""
    told held said compared opened closed made given taken named found wanted asked looked
    beside within of by at in_ through across whole known lost kept left
""")
"""Participles and prepositions, which name no function."""

FRAGMENT = re.compile(
    r"(Of|What|So|Those|As|Whether it|Where|Whoever|Which|That|How)\b|[a-z`'\"(\[{<~]"
)
NOUNS_IN_S = {"This", "Its", "Whereas", "Always", "Sums", "Classes", "Networks", "Images"}
IMPERATIVE = PACKAGE / "commands"


def find_modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def get_definitions(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, int]]:
    """Yields (name, line) of each public function, class, constant and field of a scope."""
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            ]
        yield from ((name, node.lineno) for name in names if not name.startswith("_"))


def find_repetitions(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Yields the public names that two modules define."""
    places = defaultdict(list)
    for path, tree in trees.items():
        if path.parent in TABLES:
            continue
        for name, line in dict(get_definitions(tree)).items():
            if not (path.parent == PACKAGE / "commands" and path.stem == name):
                places[name].append(f"{path.relative_to(ROOT)}:{line}")
    for name, found in sorted(places.items()):
        if len(found) > 1 and name not in ALLOWED_REPETITIONS:
            yield f"{found[0]}: {name} is defined in {', '.join(found[1:])} too"
    for name in ALLOWED_REPETITIONS:
        if len(places[name]) < 2 and name not in {path.stem for path in trees}:
            yield f"tests/words.py:1: {name} is allowed to repeat, and does not"


def is_verb(word: str) -> bool:
    return bool(re.fullmatch(r"[A-Z][a-z]+s", word)) and word not in NOUNS_IN_S


def check_docstrings(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yields the docstrings that are fragments, and of functions without a verb at the start."""
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, kinds) or not (text := ast.get_docstring(node)):
            continue
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
        first = text.split("\n")[0]
        is_function = isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
        is_command = path.parent == IMPERATIVE and isinstance(node, ast.FunctionDef)
        is_module_of_command = path.parent == IMPERATIVE and isinstance(node, ast.Module)
        has_verb = is_verb(first.split(" ")[0].rstrip(":,.")) or first.startswith("Whether ")
        if FRAGMENT.match(first) and not (is_module_of_command and first.startswith("`inception")):
            yield f"{where}: {first[:60]!r} is a fragment"
        elif is_function and not is_command and not has_verb:
            yield f"{where}: {first[:60]!r} does not begin with a verb"


def check_names(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yields the old names, and functions whose name is a bare participle or preposition."""
    where = path.relative_to(ROOT)
    if path.stem in OLD_NAMES:
        yield f"{where}:1: {path.stem} is a name of version 0.1"
    for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))):
        for name, line in get_definitions(scope):
            if name in OLD_NAMES:
                yield f"{where}:{line}: {name} is a name of version 0.1"
    for node in ast.walk(tree):
        names = [getattr(node, key, None) for key in ("id", "attr", "arg", "name")]
        for name in {name for name in names if isinstance(name, str)} & OLD_IDENTIFIERS:
            yield f"{where}:{getattr(node, 'lineno', 1)}: {name} is a name of version 0.1"
        if isinstance(node, ast.FunctionDef) and node.name in BARE_NAMES:
            yield f"{where}:{node.lineno}: {node.name} is no verb phrase"


def check_lines() -> Iterator[str]:
    """Yields the lines that are too long, in all tracked Python files."""
    files = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for file in filter(lambda file: (ROOT / file).exists(), files):
        for number, line in enumerate((ROOT / file).read_text().splitlines(), 1):
            if len(line) > MAX_LINE:
                yield f"{file}:{number}: {len(line)} characters"


def find_all() -> list[str]:
    """Returns all findings."""
    trees = {path: ast.parse(path.read_text()) for path in find_modules()}
    findings = [*find_repetitions(trees)]
    for path, tree in trees.items():
        findings += [*check_docstrings(path, tree), *check_names(path, tree)]
    for path in [*(ROOT / "configs").glob("*.py"), ROOT / "train.py"]:
        findings += check_names(path, ast.parse(path.read_text()))
    return [*findings, *check_lines()]


if __name__ == "__main__":
    print("\n".join(findings := find_all()) or "no findings")
    sys.exit(bool(findings))
