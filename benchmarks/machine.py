"""Arguments, machine facts and result files of all benchmarks."""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from inception_jax.atomic_io import format_json, write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
UNAVAILABLE = 69
"""Exit code if a library or a device is missing; the last line on stderr names it."""


EXPERIMENTS = ROOT / "experiments" / "results"


def make_parser(doc: str | None, results: Path = RESULTS) -> argparse.ArgumentParser:
    """Returns a parser with the arguments of every benchmark and experiment."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=results,
        metavar="FOLDER",
        help="folder of the results, instead of the committed one",
    )
    return parser


def exit_unavailable(message: str) -> NoReturn:
    """Ends the process with `UNAVAILABLE`."""
    print(message, file=sys.stderr)
    sys.exit(UNAVAILABLE)


def picture_folder(results: Path) -> Path:
    """Returns docs/ for the committed folder of results, and any other folder itself."""
    return ROOT / "docs" if results in (RESULTS, EXPERIMENTS) else results


def describe_machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Returns device, cores, commit and versions, with those of installed `packages`."""
    import jax  # not above: programs of other projects are timed without it

    from inception_jax.checkpointing import run_record as record

    device = jax.devices()[0]
    facts = {
        "device": f"{device.platform} {device.device_kind}",
        "devices": jax.device_count(),
        "processor": platform.machine(),
        **record.collect_versions(),
        "uncommitted": bool(record.hash_uncommitted_changes()["files"]),
    }
    for name in packages:
        with suppress(PackageNotFoundError):
            facts[name] = version(name)
    return facts


def write_results(file: Path, figures: dict[str, Any], packages: Sequence[str] = ()) -> str:
    """Writes the figures and the machine to `file` as JSON, in one go; returns the text."""
    text = format_json(
        {"benchmark": file.stem, **figures, "machine": describe_machine(packages)}, indent=2
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text + "\n")
    return text


def read_results(file: Path) -> dict[str, Any]:
    """Returns what `file` holds; empty where there is none yet."""
    return json.loads(file.read_text()) if file.exists() else {}


def publish(file: Path, figures: dict[str, Any], packages: Sequence[str] = ()) -> None:
    """Writes the figures, and prints them."""
    print(write_results(file, figures, packages))
