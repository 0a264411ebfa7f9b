"""`inception-jax report`: figures, pages and tables of runs, from their files."""

from collections.abc import Sequence
from pathlib import Path

from inception_jax.commands.cli_utils import import_figures, new_parser, shorten_path
from inception_jax.config import ConfigError
from inception_jax.monitoring.metrics_log import read_metrics


def report(arguments: list[str]) -> None:
    """Draw a run's figures again, a comparison of several runs, or published scores.

    WORKDIR... | --published
    """
    parser = new_parser("report", report.__doc__)
    parser.add_argument(
        "workdir",
        nargs="*",
        type=Path,
        help="of a run; of several the first is the baseline, and equal ones are seeds",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="the papers' results, and the scores of these runs of their recipes",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/comparison"),
        help="the folder for the page of several runs",
    )
    options = parser.parse_args(arguments)
    if not options.workdir and not options.published:
        raise ConfigError("report: give the folder of a run, of several, or --published")
    for workdir in options.workdir:
        if not (workdir / "metrics.jsonl").exists():
            raise ConfigError(f"{workdir} holds no metrics.jsonl: give the folder of a run")
    if options.published:
        _beside_the_published(options.workdir)
    elif len(options.workdir) == 1:
        _one(*options.workdir)
    else:
        _several(options.workdir, options.output)


def _one(workdir: Path) -> None:
    from inception_jax.report.page import write_page

    pictures = import_figures().draw_report(workdir)
    for file in (*pictures, write_page(workdir, pictures)):
        print(shorten_path(file))


def _several(workdirs: Sequence[Path], output: Path) -> None:
    from inception_jax.report.comparison import format_comparison, load_curves
    from inception_jax.report.page import write_comparison_page
    from inception_jax.report.published import read_published

    found = load_curves(workdirs)
    known = {row["key"]: row for row in read_published()}
    print(format_comparison(found, known))
    output.mkdir(parents=True, exist_ok=True)
    picture = import_figures().draw_comparison(found, output / "accuracy.png")
    for file in (picture, write_comparison_page(found, known, picture, output / "index.html")):
        print(shorten_path(file))


def _beside_the_published(workdirs: Sequence[Path]) -> None:
    from inception_jax.report.published import format_published_comparison, read_published

    measured = {}
    for workdir in workdirs:
        scores = [row["val/top1"] for row in read_metrics(workdir) if "val/top1" in row]
        if scores:
            measured[workdir.resolve().name] = 100 * (1 - scores[-1])
    print(format_published_comparison(read_published(), measured))
