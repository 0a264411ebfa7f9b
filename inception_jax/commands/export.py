"""`inception-jax export`: files of a trained network for other programs and projects."""

import shutil
from pathlib import Path

from inception_jax.atomic_io import make_temporary_name
from inception_jax.commands.cli_utils import (
    check_trained,
    new_parser,
    parse_output_path,
    require_unused_path,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError

FORMS = {
    "stablehlo": ".stablehlo",
    "savedmodel": ".savedmodel",
    "onnx": ".onnx",
    "safetensors": ".safetensors",
}
"""Form -> suffix of its files; a SavedModel is a folder."""
PROJECTS = ("torchvision", "timm", "cadene", "fid", "facenet")
"""Projects that read state dicts."""


def export(arguments: list[str]) -> None:
    """Write a trained network for others.

    WEIGHTS (a file, or a run's workdir) [--to FORM or PROJECT] [--pixels] [--output FILE]
    """
    parser = new_parser("export", export.__doc__)
    parser.add_argument(
        "weights",
        help=(
            "a file of weights, or the workdir of a run; RUN@STEP for another checkpoint than its "
            "newest"
        ),
    )
    parser.add_argument(
        "--to",
        choices=(*FORMS, *PROJECTS),
        default="stablehlo",
        help="a form, or the project whose state dict it is to be",
    )
    parser.add_argument(
        "--pixels",
        action="store_true",
        help="from uint8 pixels to probabilities, instead of from scaled images to logits",
    )
    parser.add_argument(
        "--output",
        type=parse_output_path,
        help="a file; where not given, RUN.FORM in this folder, or RUN.PROJECT.safetensors",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="put it in the place of a file of that name"
    )
    options = parser.parse_args(arguments)
    output = options.output or default_name(options.weights, options.to)
    if output.is_dir() and not (
        options.to == "savedmodel" and (output / "saved_model.pb").is_file()
    ):
        raise ConfigError(f"--output {output} is a folder, which stays as it is: give another name")
    if not options.overwrite:
        require_unused_path(output, "give --overwrite to replace it")
    check_trained(options.weights)
    from inception_jax.weights.trained_network import load_trained

    opened = load_trained(options.weights)
    if options.to in PROJECTS:
        from inception_jax.weights.export.exporter import export_state_dict

        print(
            f"{output}: {export_state_dict(opened, options.to, output)} arrays as {options.to} "
            "calls them; read back, they are the same"
        )
        return
    if options.to == "safetensors":
        from inception_jax.weights.export.exporter import export_weights

        export_weights(opened, output)
        print(
            f"{output}: {opened.card.model.name}, with its card; `inception-jax predict {output} "
            "IMAGE` names what is in images"
        )
        return
    from inception_jax.weights.export.exporter import EXPORT_FORMATS, export_and_verify

    unfinished = make_temporary_name(output)
    try:
        with use_compilation_cache():
            difference = export_and_verify(
                EXPORT_FORMATS[options.to], opened, unfinished, pixels=options.pixels
            )
        if output.is_dir():
            shutil.rmtree(output)
        unfinished.replace(output)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.unlink(missing_ok=True)
    size, run = opened.run.config.data.image_size, opened.run
    channels = run.network.architecture.channels
    said = (
        f"uint8 [batch, {size}, {size}, 3] to probabilities"
        if options.pixels
        else f"float32 [batch, {size}, {size}, {channels}] to logits"
    )
    print(
        f"{output}: {said} [batch, {len(run.class_names)}]; read back, it differs by "
        f"{difference:.1e} at most, of the largest value"
    )


def default_name(weights: str, form: str) -> Path:
    """Returns the name of an exported file.

    It is `digits.onnx` for the run in `runs/digits`, `v3.timm.safetensors` for `v3.safetensors`.
    """
    path = Path(weights.rpartition("://")[2])
    stem = path.stem if path.suffix == ".safetensors" else path.name or "network"
    return Path(f"{stem}{FORMS.get(form, f'.{form}.safetensors')}")
