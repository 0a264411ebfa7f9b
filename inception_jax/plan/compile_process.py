"""The child process that compiles: it may abort, run out of memory or be noisy, and its parent still has an answer."""

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

ABROAD = {
    "JAX_PLATFORMS": "cpu",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""With these libtpu looks for no TPU, asks no metadata server, writes no files, and is content beside others."""
OWN = ("TPU_", "LIBTPU_", "XLA_", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Variables for this machine's devices, which would change what is compiled for others."""


class RefusedError(UserError, RuntimeError):
    """What the child could not do, with its exit code."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def run_in_subprocess(module: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Has `python -m module` answer a request: JSON on its standard input, and a line of JSON on its standard output.

    Args:
      request: `topology` is what it compiles for; None for the devices that are here.

    Raises:
      ConfigError: libtpu is not installed, or died of the topology.
      RefusedError: an error that a user can mend.
      RuntimeError: any other death, with what the child said.
    """
    topology = request["topology"]
    if topology and find_spec("libtpu") is None:
        raise ConfigError(
            f"to compile for {topology}, libtpu must be installed: pip install 'inception-jax[tpu]'"
        )
    environment = dict(os.environ)
    if topology:
        environment = {
            name: value for name, value in environment.items() if not name.startswith(OWN)
        } | ABROAD
    environment |= {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # so that compile_seconds are of compiling
    }
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request).encode(),
        capture_output=True,
        env=environment,
    )
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 0:
        answer = json.loads(done.stdout.splitlines()[-1])
        if "error" in answer:
            raise RefusedError(answer["error"], answer["exit_code"])
        return answer
    if done.returncode > 0:
        raise RuntimeError(f"the process that compiles failed:\n{said}")
    name = signal.Signals(-done.returncode).name
    if name == "SIGKILL":
        raise RuntimeError(
            "the process that compiles was killed, probably for want of memory on this machine: it takes some GB"
        )
    if topology:
        raise ConfigError(
            f"libtpu cannot compile for {topology}: it died of {name}{extract_reason(said)}; {list_topologies()}"
        )
    raise RuntimeError(f"the process that compiles died of {name}:\n{said}")


def extract_reason(said: str) -> str:
    """The line in which a dying library says why, in brackets."""
    lines = [line for line in said.splitlines() if "Check failed" in line]
    return f" ({lines[0].partition('] ')[2] or lines[0]})"[:300] if lines else ""
