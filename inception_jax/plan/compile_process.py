"""The subprocess that compiles a program: it may abort or run out of memory without its parent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from inception_jax.config import ConfigError
from inception_jax.errors import UserError
from inception_jax.plan.chips import CHIPS, list_topologies

TPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""Variables that make libtpu compile only: no search for a TPU, no query of the metadata server, no
log files, and no lock against other processes."""
GPU_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_gpu_autotune_level=0"}
"""Variables that make the CUDA plugin compile only: a GPU of this machine is not initialized, and
without autotuning the program is the same on every machine."""
MEMORY_FRACTION_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""JAX's variables for the part of a GPU's memory that it takes, which a plan reads too."""
CUDA_MODULES = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")
LOCAL_DEVICE_PREFIXES = (
    "TPU_", "LIBTPU_", "XLA_",
    "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID",
)  # fmt: skip
"""Prefixes of variables for the devices of this machine, which would change what is compiled."""


class CompileProcessError(UserError, RuntimeError):
    """A user error of the subprocess, with its exit code."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def run_in_subprocess(module: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Runs `python -m module` on a request, and returns its answer.

    The module reads the request as JSON from standard input, and prints its answer as the last line
    of standard output, in JSON; `error` and `exit_code` in it stand for a user error.

    Args:
      module: The name of the module.
      request: The request. Its `topology` is what to compile for; None for local devices.

    Raises:
      ConfigError: The compiler for the topology is not installed, or crashed on it.
      CompileProcessError: The subprocess reports an error that a user can correct.
      RuntimeError: The subprocess failed otherwise; the message has its standard error.
    """
    topology = request["topology"]
    is_gpu = bool(topology) and _is_for_gpus(topology)
    if topology:
        _check_compiler(topology, is_gpu=is_gpu)
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request).encode(),
        capture_output=True,
        env=_make_environment(topology),
    )
    stderr = done.stderr.decode(errors="replace").strip()
    if done.returncode == 0:
        answer = json.loads(done.stdout.splitlines()[-1])
        if "error" in answer:
            raise CompileProcessError(answer["error"], answer["exit_code"])
        return answer
    if done.returncode > 0:
        raise RuntimeError(f"the process that compiles failed:\n{stderr}")
    name = signal.Signals(-done.returncode).name
    if name == "SIGKILL":
        raise RuntimeError(
            "the process that compiles was killed, probably because this machine ran out of "
            "memory: it takes some GB"
        )
    if topology:
        raise ConfigError(
            f"{'the CUDA plugin' if is_gpu else 'libtpu'} cannot compile for {topology}: it was "
            f"ended by {name}"
            f"{extract_reason(stderr)}; {list_topologies()}"
        )
    raise RuntimeError(f"the process that compiles was ended by {name}:\n{stderr}")


def _is_for_gpus(topology: str) -> bool:
    chip = CHIPS.get(topology.partition(":")[0])
    return chip is not None and chip.platform == "gpu"


def _check_compiler(topology: str, *, is_gpu: bool) -> None:
    """Raises an error if the compiler for a topology is not installed."""
    if not is_gpu and find_spec("libtpu") is None:
        raise ConfigError(
            f"to compile for {topology}, libtpu must be installed: pip install 'inception-jax[tpu]'"
        )
    if is_gpu and not has_cuda_plugin():
        raise ConfigError(
            f"to compile for {topology}, JAX's CUDA plugin must be installed: pip install "
            "'inception-jax[cuda]' (no GPU is needed)"
        )


def has_cuda_plugin() -> bool:
    """Returns whether JAX's CUDA plugin is installed."""
    for name in CUDA_MODULES:
        try:
            if find_spec(name) is not None:
                return True
        except ModuleNotFoundError:  # there is no `jax_plugins`
            continue
    return False


def _make_environment(topology: str | None) -> dict[str, str]:
    """Returns the environment of the subprocess.

    Args:
      topology: The name of the topology; None for local devices.
    """
    environment = dict(os.environ)
    if topology:
        for name in os.environ:
            if name.startswith(LOCAL_DEVICE_PREFIXES):
                del environment[name]
    if topology and _is_for_gpus(topology):
        environment |= GPU_ENVIRONMENT
        environment |= {
            name: os.environ[name] for name in MEMORY_FRACTION_VARIABLES if name in os.environ
        }
    elif topology:
        environment |= TPU_ENVIRONMENT
    return environment | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # so that `compile_seconds` measures compilation
    }


def extract_reason(stderr: str) -> str:
    """Returns the failed check of a library that aborted, in parentheses; empty without one."""
    lines = [line for line in stderr.splitlines() if "Check failed" in line]
    return f" ({lines[0].partition('] ')[2] or lines[0]})"[:300] if lines else ""
