"""`inception-jax compare`: the first difference of two runs."""

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import new_parser


def compare(arguments: list[str]) -> None:
    """Find the first step at which two runs differ, and in what. RUN_A RUN_B [--json] [--help]"""
    parser = new_parser("compare", compare.__doc__)
    parser.add_argument("runs", nargs=2, metavar="run", help="a workdir")
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args(arguments)
    from inception_jax.debugging.compare_runs import compare_runs

    found = compare_runs(*options.runs)
    print(format_json(found.to_json()) if options.json else "\n".join(found.format_lines()))
