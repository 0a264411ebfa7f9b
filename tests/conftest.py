"""What all tests share: a compilation cache, double precision on request, and digits prepared once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or ROOT / ".jax_cache")
# Child processes inherit these; they are set before JAX is imported.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_modifyitems(config, items):
    """The longest file first: it keeps one process for a quarter of an hour, in which the other goes through many.

    Other projects' networks are run where they are asked for alone, with `-m parity`.
    """
    items.sort(key=lambda item: item.path.name != "test_room.py")
    if "parity" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("parity")]


@pytest.fixture(scope="session", autouse=True)
def _own_datasets(tmp_path_factory):
    """Datasets are prepared into a folder of the tests' own, not the user's."""
    os.environ["TFDS_DATA_DIR"] = str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def x64():
    """Everything in float64 for one test."""
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def small_networks():
    """Those of one and of three modules, registered for one test."""
    from inception_jax.models import REGISTRY, register
    from tests.networks import SMALL

    for name, network in SMALL.items():
        register(name, paper=network)
    yield
    for name in SMALL:
        REGISTRY.pop(name)


@pytest.fixture
def command(tmp_path):
    """Runs `inception-jax ARGUMENTS` in a process and a folder of its own."""

    def run(*arguments, cwd=tmp_path, timeout=900, **environment):
        return subprocess.run(
            [sys.executable, "-m", "inception_jax.cli", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
