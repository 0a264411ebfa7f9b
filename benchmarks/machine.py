"""What a figure was measured on, and where it is put."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent / "results"


def machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Device, cores, versions (of `packages` too) and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} {device.device_kind}",
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax", *packages)},
        "commit": commit or "unknown",
    }


def keep(name: str, figures: dict[str, Any], packages: Sequence[str] = ()) -> str:
    """Puts the figures into `results/<name>.json`, with the versions of `packages` too; gives back what is there."""
    text = json.dumps({"benchmark": name, **figures, "machine": machine(packages)}, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    return text


def kept(name: str) -> dict[str, Any]:
    """What `results/<name>.json` holds; empty where there is none yet."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def publish(name: str, figures: dict[str, Any], packages: Sequence[str] = ()) -> None:
    """Keeps the figures, and prints them as one JSON object."""
    print(keep(name, figures, packages))
