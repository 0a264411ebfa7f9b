"""`inception-jax convert` and `verify`: weights of other projects, and a check of their numbers."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from inception_jax.atomic_io import format_json, split_lines
from inception_jax.commands.cli_utils import (
    new_parser,
    parse_output_path,
    parse_positive,
    require_unused_path,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError, Data
from inception_jax.errors import format_message

if TYPE_CHECKING:
    from inception_jax.weights.convert.importer import ImportedWeights


RESIZE_RULES = get_args(get_type_hints(Data)["resize"])


def convert(arguments: list[str]) -> None:
    """Convert weights of another project.

    FILE --from PROJECT --model NAME [--output FILE] [--scaling S] [--class-names F] [--help]

    The input of the network is known from the command line, from a config.json next to the file
    (timm), or from the table of releases; otherwise it is assumed, and printed.
    """
    from inception_jax.weights.convert.preprocessing import SCALINGS
    from inception_jax.weights.convert.sources import SOURCES

    parser = new_parser("convert", convert.__doc__)
    parser.add_argument(
        "file",
        type=Path,
        help=".pth, .ckpt, .safetensors, .keras, .h5, .caffemodel, or a TensorFlow checkpoint",
    )
    parser.add_argument("--from", dest="source", required=True, choices=tuple(SOURCES))
    parser.add_argument(
        "--model",
        required=True,
        help="as inception-jax models lists them, or as the project calls it",
    )
    parser.add_argument(
        "--output",
        type=parse_output_path,
        help="weights.safetensors where not given, which must not be there",
    )
    parser.add_argument(
        "--class-offset",
        type=int,
        metavar="N",
        help="classes before ImageNet's first, where their number does not tell",
    )
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="the head's own classes, a name on each line",
    )
    parser.add_argument(
        "--parameters",
        choices=("averaged", "raw"),
        default="averaged",
        help="of a file that holds moving averages beside raw arrays",
    )
    parser.add_argument(
        "--scaling",
        choices=tuple(SCALINGS),
        help="of pixels, where it is known to be another than what is printed",
    )
    parser.add_argument(
        "--resize", choices=RESIZE_RULES, help="the filter that images are resized by"
    )
    fraction = "the middle square's, of the shorter side: timm's crop_pct"
    parser.add_argument(
        "--crop-fraction", dest="test_crop_fraction", type=float, metavar="F", help=fraction
    )
    parser.add_argument("--image-size", type=parse_positive, metavar="PIXELS")
    parser.add_argument(
        "--licence",
        default="",
        help="of weights that are no known release; unknown where not given",
    )
    parser.add_argument(
        "--source",
        dest="origin_name",
        default="",
        help="who made such weights; the project where not given",
    )
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not run the project's own network beside ours, where it is installed",
    )
    options = parser.parse_args(arguments)
    output = options.output or require_unused_path(Path("weights.safetensors"))
    if output.suffix != ".safetensors":
        raise ConfigError(f"--output {output}: weights are kept in files called .safetensors")
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from inception_jax.weights import files as file
    from inception_jax.weights.convert.importer import import_weights
    from inception_jax.weights.reference.parity import measure_parity

    try:
        names = (
            [name.strip() for name in split_lines(options.class_names.read_bytes())]
            if options.class_names
            else ()
        )
    except OSError as error:
        raise ConfigError(
            f"--class-names {options.class_names} cannot be read ({error}): give a text with a "
            "name on each line"
        ) from error
    asked = {
        name: getattr(options, name)
        for name in ("image_size", "test_crop_fraction", "resize", "scaling")
    }
    found = import_weights(
        options.source, options.file, options.model, class_offset=options.class_offset,
        class_names=names, parameters=options.parameters,
        input_spec={name: value for name, value in asked.items() if value is not None},
        licence=options.licence, origin_name=options.origin_name,
    )  # fmt: skip
    with use_compilation_cache():
        references, parity = measure_parity(found, check=not options.no_check)
    file.save(output, replace(found.card, parity=parity), found.variables, references)
    print(format_message(_described(output, found)))
    print(_parity(parity))


def verify(arguments: list[str]) -> None:
    """Check that weights give the numbers here that they gave at conversion. WEIGHTS [--json]"""
    parser = new_parser("verify", verify.__doc__)
    parser.add_argument(
        "weights",
        help="a file that inception-jax convert or export has written, or the id of a release",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    from inception_jax.weights import files as file
    from inception_jax.weights.hub import resolve_weights
    from inception_jax.weights.reference.parity import remeasure_parity, require_parity
    from inception_jax.weights.trained_network import load_trained

    path = str(resolve_weights(options.weights))
    run, variables, card, _ = load_trained(path)
    with use_compilation_cache():
        parity = remeasure_parity(card, run.network, variables, file.read_file(path).references)
    if options.json:
        print(format_json(parity, indent=1))
    else:
        width = max(map(len, parity["errors"]))
        print(
            *(f"{name:{width}}  {error:.1e}" for name, error in parity["errors"].items()), sep="\n"
        )
        print(_parity(parity))
    require_parity(parity, f"do not trust {options.weights} on this machine")


def _described(path: Path, found: "ImportedWeights") -> str:
    import jax

    from inception_jax.weights.convert.preprocessing import format_preprocessing

    card = found.card
    parameters = sum(leaf.size for leaf in jax.tree.leaves(found.variables["params"]))
    classes = f"{card.num_classes} classes" + (
        f", ImageNet's from number {card.class_offset}" if not card.class_names else ""
    )
    classes = classes if card.num_classes else "no classes: features alone"
    aux = ", auxiliary heads included" if card.model.aux else ""
    line = (
        f"{path}: {card.model.name} ({card.model.variant}), {parameters:,} parameters{aux}; "
        f"{classes}; {card.data.image_size} pixels"
    )
    line += "".join(f"\n{note}" for note in found.notes)
    line += f"\nfed: {format_preprocessing(card.data)} ({'; '.join(found.input_notes)})"
    line += f"\nlicence: {card.licence}"
    if card.published:
        line += (
            f"\npublished: top-1 {card.published['top1']:.2%}, top-5 {card.published['top5']:.2%} "
            f"(known by {card.published['known_by']})"
        )
    return line


def _parity(parity: dict[str, Any]) -> str:
    worst = max(parity["errors"], key=lambda name: parity["errors"][name])
    return (
        f"against {parity['against']}: {parity['errors'][worst]:.1e} of the largest value at most, "
        f"at {worst}"
    )
