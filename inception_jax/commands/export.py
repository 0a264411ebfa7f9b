"""`inception-jax export`: a trained run as a file that runs without this package."""

from pathlib import Path

from inception_jax.commands.line import new_parser, target


def export(arguments: list[str]) -> None:
    """Write a trained run as one file that JAX runs without this package, from pixels to probabilities. WORKDIR [--output FILE]"""
    parser = new_parser("export", export.__doc__)
    parser.add_argument("workdir")
    parser.add_argument("--output", type=target, default=Path("network.stablehlo"))
    options = parser.parse_args(arguments)
    from inception_jax.weights.stablehlo import exported, worst_difference
    from inception_jax.workdir import opened

    _, run, state = opened(options.workdir)
    file = exported(run, state)
    difference = worst_difference(file, run, state)
    options.output.write_bytes(file)
    size = run.config.data.image_size
    print(
        f"{options.output}: uint8 [batch, {size}, {size}, 3] to probabilities [batch, {len(run.class_names)}] on cpu, cuda and tpu; "
        f"read back, it differs by {difference:.1e} at most"
    )
