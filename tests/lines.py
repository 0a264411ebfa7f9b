"""Counts code lines, without blanks, comments and docstrings: `python -m tests.lines [FOLDER]`, by
package.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def count_lines(source: str) -> int:
    """Returns the number of lines of `source` that hold a token of code; a text that stands alone
    as a statement is none.
    """
    texts = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    documentation = {
        line
        for text in texts
        if isinstance(text.value, str)
        for line in range(text.lineno, (text.end_lineno or 0) + 1)
    }
    code = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code |= {*range(token.start[0], token.end[0] + 1)}
    return len(code - documentation)


def count_by_package(folder: Path) -> dict[str, int]:
    """Returns the code lines of each package directly in `folder`, those of its own modules under
    `.`.
    """
    lines = Counter[str]()
    for file in sorted(folder.rglob("*.py")):
        package, *rest = file.relative_to(folder).parts
        lines[package if rest else "."] += count_lines(file.read_text())
    return dict(lines)


def main() -> None:
    folder = Path(
        sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "inception_jax"
    )
    lines = count_by_package(folder)
    for package, count in lines.items():
        print(f"{count:7,}  {package}")
    print(f"{sum(lines.values()):7,}  {folder.name}")


if __name__ == "__main__":
    main()
