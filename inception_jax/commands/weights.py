"""`inception-jax weights`: known releases of trained networks, and their copies in the cache."""

from pathlib import Path

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import new_parser
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.weights.hub import get_cached_path, get_release, list_releases, pull_weights
from inception_jax.weights.releases import Release, make_release_record

WEIGHTS_ACTIONS = {
    "list": "list the known releases",
    "pull": "download and convert one, unless the cache has it",
    "verify": "check that the cached one is whole and gives its numbers here",
    "path": "print where the cached one is",
}


def weights(arguments: list[str]) -> None:
    """List, download and check trained networks.

    list [PATTERN] [--json] | pull ID [--file FILE] | verify ID | path ID
    """
    action = arguments.pop(0) if arguments else ""
    if action in ("-h", "--help"):
        print("usage: inception-jax weights list [PATTERN] | pull|verify|path ID [--help]\n")
        print("\n".join(f"  {name:8}{meaning}" for name, meaning in WEIGHTS_ACTIONS.items()))
        return
    if action not in WEIGHTS_ACTIONS:
        raise ConfigError(
            f"weights {action}: wanted is one of "
            + ", ".join(f"{name} ({meaning})" for name, meaning in WEIGHTS_ACTIONS.items())
        )
    if action == "list":
        _print_releases(arguments)
        return
    parser = new_parser(f"weights {action}", f"{WEIGHTS_ACTIONS[action].capitalize()}.")
    parser.add_argument("id", help="an id of `inception-jax weights list`, or hf-hub:OWNER/NAME")
    if action == "pull":
        parser.add_argument(
            "--file", type=Path, help="a copy of the release's file, instead of a download"
        )
        parser.add_argument(
            "--again", action="store_true", help="replace a converted copy in the cache"
        )
    options = parser.parse_args(arguments)
    release = get_release(options.id)
    if action == "pull":
        print(pull_weights(release, local_copy=options.file, again=options.again))
        return
    path = get_cached_path(release)
    if not path.is_file():
        raise DataError(
            f"{release.id} is not in the cache ({path}): inception-jax weights pull {release.id}"
        )
    if action == "path":
        print(path)
        return
    from inception_jax.commands.convert import verify

    verify([str(path)])


def _print_releases(arguments: list[str]) -> None:
    parser = new_parser("weights list", f"{WEIGHTS_ACTIONS['list'].capitalize()}.")
    parser.add_argument("pattern", nargs="?", default="*", help="of ids or networks: '*resnet50*'")
    parser.add_argument(
        "--json", action="store_true", help="for programs: a list with an object for each"
    )
    options = parser.parse_args(arguments)
    found = list_releases(options.pattern)
    if not found:
        raise ConfigError(
            f"no release matches {options.pattern!r}: leave the pattern out, or put it between "
            "asterisks, '*resnet50*'"
        )
    if options.json:
        from inception_jax.weights.convert.sources import SOURCES

        records = [
            make_release_record(release, SOURCES[release.source][release.model].data)
            for release in found
        ]
        print(format_json(records, indent=1))
        return
    rows: list[tuple[str, ...]] = [
        ("id", "network", "top-1", "top-5", "at px", "MB", "cached", "licence")
    ]
    rows += [_format_row(release) for release in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).strip())


def _format_row(release: Release) -> tuple[str, ...]:
    scores = (
        f"{score:.2f}" if score is not None else "-" for score in (release.top1, release.top5)
    )
    return (
        release.id, release.model, *scores, str(release.score_size or "-"),
        f"{release.size / 1e6:.0f}" if release.size else "-",
        "yes" if get_cached_path(release).is_file() else "-",
        release.licence.partition(";")[0],
    )  # fmt: skip
