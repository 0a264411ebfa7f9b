"""`inception-jax predict` and `features`: what a trained run makes of images."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_jax.commands.line import new_parser, target

if TYPE_CHECKING:
    import numpy as np

    from inception_jax.experiment import Run

BATCH = 32
"""Images that are computed together: one program for any number of them."""


def predict(arguments: list[str]) -> None:
    """Name what is in images, with a trained run. WORKDIR IMAGE... [--top K] [--json]"""
    parser = new_parser("predict", predict.__doc__)
    parser.add_argument("workdir")
    parser.add_argument("images", nargs="+", metavar="image", help="files, or folders of them")
    parser.add_argument("--top", type=int, default=3, help="so many classes for each image")
    parser.add_argument("--json", action="store_true", help="a list with one object per image")
    options = parser.parse_args(arguments)
    import numpy as np

    from inception_jax.workdir import opened

    _, run, state = opened(options.workdir)
    files = images_in(options.images)
    results: list[dict[str, Any]] = []
    for name, found in zip(files, _each(run, lambda images: run.predict_step(state.variables, images), files), strict=True):
        best = np.argsort(-found, kind="stable")[: options.top]
        classes = [{"class": run.class_names[i], "probability": round(float(found[i]), 6)} for i in best]
        results.append({"image": str(name), "classes": classes})
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for result in results:
        print(f"{result['image']}: " + ", ".join(f"{entry['class']} {entry['probability']:.1%}" for entry in result["classes"]))


def features(arguments: list[str]) -> None:
    """Keep what a network makes of images, before its classifier or at an end point. WORKDIR IMAGE... [--end-point NAME] [--output F]"""
    parser = new_parser("features", features.__doc__)
    parser.add_argument("workdir")
    parser.add_argument("images", nargs="+", metavar="image", help="files, or folders of them")
    parser.add_argument("--end-point", help="as inception-jax models NAME lists them; what the classifier reads where not given")
    parser.add_argument("--output", type=target, default=Path("features.npz"), help="`features` [N, ...] and `images` [N], their files")
    options = parser.parse_args(arguments)
    import numpy as np

    from inception_jax.evaluation.features import features_step
    from inception_jax.workdir import opened

    _, run, state = opened(options.workdir)
    step = features_step(run, options.end_point)
    files = images_in(options.images)
    found = np.stack(list(_each(run, lambda images: step(state.variables, images), files)))
    with options.output.open("wb") as file:
        np.savez(file, features=found, images=np.array([str(image) for image in files]))
    print(f"{options.output}: {' x '.join(map(str, found.shape))}")


def images_in(names: Sequence[str]) -> list[Path]:
    """The files that are named, and those in the folders that are, in the order of their names.

    Raises:
      DataError: a folder without files.
    """
    from inception_jax.data.source import DataError

    found: list[Path] = []
    for name in names:
        path = Path(name)
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{name} is a folder without files: give images, or a folder that holds some")
        found += files
    return found


def _each(run: "Run", compute: Callable[["np.ndarray"], Any], files: Sequence[Path]) -> Iterator["np.ndarray"]:
    """What `compute` makes of each file's image, a batch at a time, the last one filled up."""
    import numpy as np

    from inception_jax.data.source import DataError, Example

    pixels = []
    for i, file in enumerate(files):
        try:
            pixels.append(run.pixels(Example(file.read_bytes(), 0)))
        except (OSError, DataError) as error:
            raise DataError(f"{file}: {error}") from error
        if len(pixels) == min(BATCH, len(files)) or i == len(files) - 1:
            filled = np.zeros((min(BATCH, len(files)), *pixels[0].shape), np.uint8)
            filled[: len(pixels)] = pixels
            yield from np.asarray(compute(filled))[: len(pixels)]
            pixels = []
