"""`inception-jax predict` and `features`: the outputs of a trained network for images."""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inception_jax.atomic_io import format_json, split_lines
from inception_jax.commands.cli_utils import (
    check_trained,
    new_parser,
    parse_output_path,
    parse_positive,
    require_unused_path,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.data.source import DataError
from inception_jax.errors import escape_control_characters
from inception_jax.monitoring.progress import show_progress
from inception_jax.preemption import PreemptionHandler

if TYPE_CHECKING:
    import argparse

    from inception_jax.weights.predictor import Predictor


def predict(arguments: list[str]) -> None:
    """Classify images.

    WEIGHTS (a file, or a run's workdir) IMAGE... (- for names on stdin) [--top K] [--json | --csv]
    """
    parser = _parser("predict", predict.__doc__)
    parser.add_argument(
        "--top", type=parse_positive, default=3, help="so many classes for each image"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="a list with one object per image")
    forms.add_argument(
        "--csv", action="store_true", help="a line per image and class, under a heading"
    )
    options = parser.parse_args(arguments)
    results, bad = [], []
    with _open_predictor(options) as (predictor, files):
        if not predictor.names:
            raise DataError(
                f"{options.weights} has no classifier: `inception-jax features` keeps what it "
                "makes of images"
            )
        shown = show_progress(files, "predicting") if predictor.is_primary else files
        for file, row in zip(shown, predictor.each(files), strict=True):
            if row is None:
                bad.append(file)
            else:
                results.append((str(file), predictor.best(row, options.top)))
    if not predictor.is_primary:
        pass
    elif options.json:
        listed = [
            {
                "image": image,
                "classes": [
                    {"class": guess.name, "probability": round(guess.probability, 6)}
                    for guess in guesses
                ],
            }
            for image, guesses in results
        ]
        print(format_json(listed, indent=1))
    elif options.csv:
        lines = csv.writer(sys.stdout)
        lines.writerow(("image", "rank", "class", "probability"))
        for image, guesses in results:
            rows = (
                (rank, escape_control_characters(guess.name), f"{guess.probability:.6f}")
                for rank, guess in enumerate(guesses, 1)
            )
            lines.writerows((escape_control_characters(image), *row) for row in rows)
    else:
        for image, guesses in results:
            print(
                escape_control_characters(
                    f"{image}: "
                    + ", ".join(f"{guess.name} {guess.probability:.1%}" for guess in guesses)
                )
            )
    _report_bad(bad, files, predictor)


def features(arguments: list[str]) -> None:
    """Save features of images, before the classifier or at an end point.

    WEIGHTS IMAGE... [--end-point NAME] [--output F.npz | F.parquet]
    """
    parser = _parser("features", features.__doc__)
    parser.add_argument(
        "--end-point",
        help="as inception-jax models NAME lists them; what the classifier reads where not given",
    )
    parser.add_argument(
        "--output", type=parse_output_path,
        help=(
            "F.npz: `features` [N, ...] and `images` [N], their files; F.parquet: the same in "
            "columns, for any number of images; features.npz where not given, which must not be "
            "there"
        ),
    )  # fmt: skip
    options = parser.parse_args(arguments)
    output = options.output or require_unused_path(Path("features.npz"))
    from inception_jax.weights.feature_file import check_feature_file, save_features

    check_feature_file(output)
    with _open_predictor(options) as (predictor, files), PreemptionHandler():
        saved = save_features(predictor, files, output, options.end_point)
    if predictor.is_primary:
        print(f"{output}: {' x '.join(map(str, saved.shape))}")
    _report_bad([files[i] for i in saved.unreadable], files, predictor)


def _parser(name: str, description: str | None) -> "argparse.ArgumentParser":
    parser = new_parser(name, description)
    parser.add_argument(
        "weights",
        help=(
            "a file of weights, or the workdir of a run; RUN@STEP for another checkpoint than its "
            "newest"
        ),
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="image",
        help="files, or folders of them; - for their names on standard input",
    )
    parser.add_argument(
        "--orientation",
        choices=("apply", "ignore"),
        help="turn images as their EXIF says, or not; as the network learned where not given",
    )
    parser.add_argument(
        "--batch-size", type=parse_positive, default=32, help="images that are computed together"
    )
    return parser


@contextmanager
def _open_predictor(options: "argparse.Namespace") -> "Iterator[tuple[Predictor, list[Path]]]":
    """Yields the predictor and the images of a command, joined to the other processes."""
    from inception_jax.checkpointing.run_record import collect_shared_facts
    from inception_jax.data.images import list_images
    from inception_jax.distributed.processes import join_processes, supervise_subprocess
    from inception_jax.weights.predictor import Predictor

    supervise_subprocess()  # before standard input is read
    files = list_images(
        [
            line
            for name in options.images
            for line in (_lines_of_input() if name == "-" else [name])
            if line
        ]
    )
    with join_processes(facts=collect_shared_facts), use_compilation_cache():
        check_trained(options.weights)
        predictor = Predictor(
            options.weights, batch_size=options.batch_size, orientation=options.orientation
        )
        yield predictor, files


def _lines_of_input() -> list[str]:
    """Returns the names on standard input, in any encoding and with any line ends."""
    binary = getattr(sys.stdin, "buffer", None)
    return split_lines(binary.read() if binary else sys.stdin.read().encode())


def _report_bad(bad: Sequence[Path], files: Sequence[Path], predictor: "Predictor") -> None:
    """Prints the images that could not be read, and the number of ignored EXIF orientations.

    Raises:
      DataError: Some images could not be read.
    """
    ignored = (
        sum(map(predictor.is_turned, files))
        if predictor.ignores_orientation and predictor.is_primary
        else 0
    )
    if ignored:
        text = (
            f"{ignored} of {len(files)} images have an EXIF orientation, which was ignored, as in "
            "training: --orientation apply turns them"
        )
        print(text, file=sys.stderr)
    if bad:
        lines = [f"{file}: {predictor.explain_failure(file)}" for file in bad[:10]] + (
            [f"and {len(bad) - 10} more"] if len(bad) > 10 else []
        )
        raise DataError(f"{len(bad)} of {len(files)} images could not be read\n" + "\n".join(lines))
