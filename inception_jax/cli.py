"""The command `inception-jax`: runs the modules of `commands`, and turns errors into exit codes."""

import contextlib
import difflib
import importlib
import io
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from inception_jax import __version__
from inception_jax.commands.cli_utils import IMPORTED
from inception_jax.config import ConfigError
from inception_jax.errors import ExitCode, UserError, format_message, get_exit_code
from inception_jax.preemption import PreemptionHandler

NAMES = (
    "train", "finetune", "evaluate", "predict", "features", "fid", "weights", "convert", "verify",
    "export", "models", "recipes", "data", "plan", "benchmark", "report", "compare", "replay",
)  # fmt: skip
BESIDE = {"features": "predict", "verify": "convert"}
"""Commands in a module of another's name."""
COMMANDS: dict[str, Callable[[list[str]], None]] = {
    name: getattr(importlib.import_module(f"inception_jax.commands.{BESIDE.get(name, name)}"), name)
    for name in NAMES
}
EXTRAS = {
    "data": (
        "PIL",
        "cv2",
        "simplejpeg",
        "grain",
        "tensorflow_datasets",
        "array_record",
        "google_crc32c",
    ),
    "export": ("flatbuffers", "onnx", "onnxruntime"),
    "report": ("matplotlib", "tensorboardX"),
}
"""The extra of this package that brings a module."""
WIDTH = 80
"""Columns of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("\n".join(["usage: inception-jax COMMAND ... [--import PACKAGE]", "", *_summaries()]))
        print("\ninception-jax COMMAND --help says what a command takes; --version, this release.")
        return 0
    if arguments[0] == "--version":
        print(f"inception-jax {__version__}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        return _failed(f"no command is called {name!r}; {hint}", ExitCode.USAGE)
    try:
        COMMANDS[name](_imported(rest))
        sys.stdout.flush()
    except BrokenPipeError:  # `inception-jax models | head`: who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except UserError as error:
        return _failed(error, error.exit_code)
    except ModuleNotFoundError as error:
        extra = next(
            (
                extra
                for extra, modules in EXTRAS.items()
                if (error.name or "").partition(".")[0] in modules
            ),
            None,
        )
        if extra is None:
            raise
        return _failed(
            f"this needs {error.name}, which is not installed: "
            f"pip install 'inception-jax[{extra}]'",
            ExitCode.CONFIG,
        )
    except Exception as error:
        if _is_without_device(error):
            asked, reason = (
                os.environ.get("JAX_PLATFORMS", ""),
                str(error).strip().partition("\n")[0] or "it is not installed",
            )
            return _failed(
                f"JAX finds no device for JAX_PLATFORMS={asked} ({reason}): set it to cpu, or "
                "leave it out",
                ExitCode.CONFIG,
            )
        if get_exit_code(error) == ExitCode.CONFIG and isinstance(error, OSError):
            return _failed(
                f"{str(error.filename)[:200]}: {error.strerror}: give another path, or see to its "
                "permissions",
                ExitCode.CONFIG,
            )
        if get_exit_code(error) != ExitCode.STORAGE:
            raise  # a bug of ours: the traceback is what helps
        traceback.print_exc()  # it says what was being written, which the system's message does not
        return _failed(f"storage failed: {error}", ExitCode.STORAGE)
    return 0


def _is_without_device(error: Exception) -> bool:
    """Returns whether JAX could not start its platform.

    For cuda the error is an assertion without a text.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return (
        bool(frames)
        and frames[-1].filename.endswith("xla_bridge.py")
        and isinstance(error, RuntimeError | AssertionError)
    )


def _failed(error: object, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"inception-jax: {format_message(error)}", file=sys.stderr, flush=True)
    return code


def _summaries() -> list[str]:
    """Returns the first sentence on each command, in `WIDTH` columns."""
    lines = []
    for name, function in COMMANDS.items():
        sentence = (function.__doc__ or "").split("\n")[0].partition(". ")[0].rstrip(".")
        lines += textwrap.wrap(
            sentence, WIDTH, initial_indent=f"  {name:11}", subsequent_indent=" " * 13
        )
    return lines


def _imported(arguments: list[str]) -> list[str]:
    """Imports the modules that `--import` names, which register models and datasets.

    Returns the other arguments.
    """
    rest = []
    remaining = iter(arguments)
    for argument in remaining:
        flag, _, package = argument.partition("=")
        if flag != "--import":
            rest.append(argument)
            continue
        package = package or next(remaining, "")
        sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(package)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"--import {package}: {error}; name a module on the Python path or in this folder"
            ) from error
        IMPORTED.append(package)
    return rest


def entry(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command, and ends this process with its exit code."""
    PreemptionHandler.owns_process = True
    code = main(arguments)
    if code == ExitCode.STORAGE:
        # Orbax's threads go on trying to write for five minutes after a save that failed, and
        # Python would wait for them.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
