"""`inception-jax report`: what runs left in their folders, as pictures, pages and tables."""

from collections.abc import Sequence
from pathlib import Path

from inception_jax.commands.line import figures, new_parser, short
from inception_jax.config import ConfigError
from inception_jax.logbook import read_metrics


def report(arguments: list[str]) -> None:
    """Draw a run's pictures again, from its files; several runs beside each other; or what was published. WORKDIR... | --published"""
    parser = new_parser("report", report.__doc__)
    parser.add_argument("workdir", nargs="*", type=Path, help="of a run; of several the first is the baseline, and equal ones are seeds")
    parser.add_argument("--published", action="store_true", help="the papers' results, and the scores of these runs of their recipes")
    parser.add_argument("--output", type=Path, default=Path("runs/comparison"), help="the folder for the page of several runs")
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
    from inception_jax.report.page import write

    pictures = figures().draw(workdir)
    for file in (*pictures, write(workdir, pictures)):
        print(short(file))


def _several(workdirs: Sequence[Path], output: Path) -> None:
    from inception_jax.report.comparison import curves, printed
    from inception_jax.report.page import beside
    from inception_jax.report.published import published

    found = curves(workdirs)
    known = {row["key"]: row for row in published()}
    print(printed(found, known))
    output.mkdir(parents=True, exist_ok=True)
    picture = figures().beside(found, output / "accuracy.png")
    for file in (picture, beside(found, known, picture, output / "index.html")):
        print(short(file))


def _beside_the_published(workdirs: Sequence[Path]) -> None:
    from inception_jax.report.published import compared, published

    measured = {}
    for workdir in workdirs:
        scores = [row["val/top1"] for row in read_metrics(workdir) if "val/top1" in row]
        if scores:
            measured[workdir.resolve().name] = 100 * (1 - scores[-1])
    print(compared(published(), measured))
