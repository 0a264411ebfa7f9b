"""`inception-jax compare`: where two runs part."""

from inception_jax.commands.line import new_parser
from inception_jax.files import json_text


def compare(arguments: list[str]) -> None:
    """Find the first step at which two runs differ, and in what. RUN_A RUN_B [--json] [--help]"""
    parser = new_parser("compare", compare.__doc__)
    parser.add_argument("runs", nargs=2, metavar="run", help="a workdir")
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args(arguments)
    from inception_jax.parting import parting

    found = parting(*options.runs)
    print(json_text(found._asdict()) if options.json else "\n".join(found.lines()))
