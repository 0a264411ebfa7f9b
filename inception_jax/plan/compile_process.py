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
from inception_jax.plan.chips import list_topologies

TPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""Variables that make libtpu compile only: no search for a TPU, no query of the metadata server, no
log files, and no lock against other processes."""
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
      ConfigError: libtpu is not installed, or crashed on the topology.
      CompileProcessError: The subprocess reports an error that a user can correct.
      RuntimeError: The subprocess failed otherwise; the message has its standard error.
    """
    topology = request["topology"]
    if topology and find_spec("libtpu") is None:
        raise ConfigError(
            f"to compile for {topology}, libtpu must be installed: pip install 'inception-jax[tpu]'"
        )
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request).encode(),
        capture_output=True,
        env=_make_environment(for_local_devices=not topology),
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
            f"libtpu cannot compile for {topology}: it was ended by {name}"
            f"{extract_reason(stderr)}; {list_topologies()}"
        )
    raise RuntimeError(f"the process that compiles was ended by {name}:\n{stderr}")


def _make_environment(*, for_local_devices: bool) -> dict[str, str]:
    environment = dict(os.environ)
    if not for_local_devices:
        for name in os.environ:
            if name.startswith(LOCAL_DEVICE_PREFIXES):
                del environment[name]
        environment |= TPU_ENVIRONMENT
    return environment | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # so that `compile_seconds` measures compilation
    }


def extract_reason(stderr: str) -> str:
    """Returns the failed check of a library that aborted, in parentheses; empty without one."""
    lines = [line for line in stderr.splitlines() if "Check failed" in line]
    return f" ({lines[0].partition('] ')[2] or lines[0]})"[:300] if lines else ""
