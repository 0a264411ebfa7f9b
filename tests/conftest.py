"""Tiers, compilation cache and fixtures of all tests.

`docs/testing.md` says what each tier holds.
"""

import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

from inception_jax.cache_folder import get_cache_folder
from inception_jax.compilation_cache import format_platform_key

ROOT = Path(__file__).parent.parent
ON_REQUEST = ("nightly", "parity")
"""Tiers that run where `-m` names them, or a test's own node id does."""


# Subprocesses inherit these; they are set before JAX is imported.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(get_cache_folder() / "tests" / format_platform_key())
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Programs run a few times here: compiling is what takes long. A training step of nine convolutions
# compiles in 8.6 s of a processor, at
# level 0 in 4.4 s, and without the MLIR emitters, to which jaxlib 0.12 has no alternative, in 1.3
# s.
QUICK_OPTIONS: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
OPTIMIZED_OPTIONS: dict[str, int | bool] = {"xla_backend_optimization_level": 3}
"""`compiler_options` of a test that reads or times a program compiled in its own process."""
if version("jaxlib").startswith("0.10."):
    QUICK_OPTIONS["xla_cpu_use_fusion_emitters"] = False
    OPTIMIZED_OPTIONS["xla_cpu_use_fusion_emitters"] = True
QUICK_FLAGS = " ".join(f"--{name}={value}".lower() for name, value in QUICK_OPTIONS.items())
OPTIMIZED_FLAGS = (
    os.environ.get("XLA_FLAGS", "").replace(QUICK_FLAGS, "").strip()
)  # a worker has inherited the quick ones
"""`XLA_FLAGS` of a test that reads or times programs of another process."""
os.environ["XLA_FLAGS"] = f"{OPTIMIZED_FLAGS} {QUICK_FLAGS}".strip()

FIRST = (
    "test_newcomer.py",
    "test_benchmarks.py",
    "test_room.py",
    "test_rewrites.py",
    "test_peers.py",
    "test_processes.py",
    "test_signals.py",
    "test_family.py",
    "test_recorded.py",
    "test_cli.py",
)
"""Files that keep one process longest: they are begun first, while the other goes through many."""


def pytest_addoption(parser):
    parser.addoption(
        "--shard",
        default="1/1",
        metavar="K/N",
        help="the K-th of N parts of the tests that were asked for",
    )
    parser.addoption(
        "--stop-at",
        type=float,
        metavar="TIME",
        help="Unix time from which on tests are left, and named at the end",
    )


@pytest.hookimpl(trylast=True)  # after `-m` has chosen
def pytest_collection_modifyitems(config, items):
    """Leaves out tiers that were not asked for, and other shards; puts the longest files first."""
    asked = re.findall(r"\w+", config.option.markexpr)
    by_id = any("::" in argument for argument in config.args)
    chosen = [
        item
        for item in items
        if by_id
        or not any(item.get_closest_marker(tier) and tier not in asked for tier in ON_REQUEST)
    ]
    part, parts = map(int, config.option.shard.split("/"))
    chosen = chosen[part - 1 :: parts]
    config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
    items[:] = sorted(
        chosen,
        key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST),
    )


LEFT = "left: its time was up"


def pytest_runtest_setup(item):
    if item.config.option.stop_at and time.time() > item.config.option.stop_at:
        pytest.skip(LEFT)


def pytest_terminal_summary(terminalreporter, config):
    """Names the tests that `--stop-at` left."""
    left = [
        report.nodeid
        for report in terminalreporter.stats.get("skipped", [])
        if LEFT in str(report.longrepr)
    ]
    if config.option.stop_at:
        terminalreporter.line(
            f"shard {config.option.shard}: {len(left)} tests left for want of "
            f"time{''.join(f'{chr(10)}  {one}' for one in left)}"
        )


@pytest.fixture(scope="session", autouse=True)
def _own_datasets(tmp_path_factory):
    """Prepares datasets in a folder of the tests' own, not the user's."""
    os.environ["TFDS_DATA_DIR"] = str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def x64():
    """Computes in float64 for one test."""
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session", autouse=True)
def _small_networks():
    """Registers the networks of `benchmarks.small_networks`, when the registry has been collected
    from.
    """
    import benchmarks.registered  # noqa: F401


class Done(NamedTuple):
    """The result of a command, with the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Runs `inception-jax ARGUMENTS` in this process and the test's own folder."""
    from inception_jax.cli import main

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def process(tmp_path):
    """Runs `inception-jax ARGUMENTS` in a process of its own, in the test's own folder."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "inception_jax.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=1800,
        )

    return run
