"""Comparison of this package's programs with those of other projects.

`peers_cpu.py`, `peers_gpu.py` and `scaling.py` use it. Each program runs in a process of its own,
with its own allocator and threads, and works only on request through a pipe. One peer at a time is
compared: first both must give the same logits from the same weights in float32; then both are
compiled and warmed up; then they are timed in alternating rounds, so that a slow period of the
machine affects both. Each round has its ratio.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import make_parser, read_results, write_results
from benchmarks.programs import INFERENCE, TRAINING, Program, ProgramError, Task, Torch
from inception_jax.weights.convert.sources import SOURCES

BOUND = 1e-4
"""Largest max|a - b| / max|b| of float32 logits of two programs with the same function."""
AS_TIMED = {"float32": 1e-3, "bfloat16": 0.1}
"""The same bound for the timed programs, in their own precision: logits, or the loss of the
first step.
"""
SPAWN = multiprocessing.get_context("spawn")


class Worker:
    """An object that `make` makes in a process of its own.

    It is called with the name of a method and its arguments.
    """

    def __init__(self, make: Callable[[], Any]):
        self._pipe, there = SPAWN.Pipe()
        self._process = SPAWN.Process(target=serve, args=(there, make))
        self._process.start()
        there.close()

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Calls a method in the process.

        Raises:
          ProgramError: The method raised an error, or the process has ended.
        """
        try:
            self._pipe.send((method, arguments))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ProgramError(f"its process has ended, with {self._process.exitcode}") from None
        if isinstance(answer, ProgramError):
            raise answer
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: Any) -> None:
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(pipe: Any, make: Callable[[], Any]) -> None:
    """Answers what is asked through `pipe` until it is closed."""
    held = None
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            held = held or make()
            pipe.send(getattr(held, method)(*arguments))
        except Exception as error:
            message = (
                f"{error}"
                if isinstance(error, ProgramError)
                else f"{type(error).__name__}: {error}"
            )
            pipe.send(ProgramError(message[:600]))


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns max|a - b| / max|b|."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def demand(found: float, bound: float, what: str) -> float:
    """Raises an error for a difference above the bound.

    Raises:
      ProgramError: It is larger, or NaN.
    """
    if not found <= bound:
        raise ProgramError(
            f"not timed: its {what} are {found:.1e} of the largest apart from ours, more than "
            f"{bound}"
        )
    return found


@dataclass
class Side:
    """A worker with its results.

    Attributes:
      logits: Logits in float32, before anything was compiled.
      seen: The loss of its first step, or its logits, in the timed precision.
    """

    worker: Worker
    logits: np.ndarray
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0))
    facts: dict[str, Any] = field(default_factory=dict)


def readied(worker: Worker, task: Task, ours: Side | None = None) -> Side:
    """Returns a compiled and warm program that computes the same as `ours`.

    Raises:
      ProgramError: It cannot, or computes something else.
    """
    side = Side(worker, worker("logits"))
    reference = ours or side
    side.facts["logits_apart"] = demand(apart(side.logits, reference.logits), BOUND, "logits")
    started, side.seen = worker("start")
    wanted = reference.seen if task.what == TRAINING else reference.logits
    side.facts |= started | {
        "as_timed_apart": demand(
            apart(side.seen, wanted), AS_TIMED[task.dtype], "results as they are timed"
        )
    }
    if task.what == TRAINING:
        side.facts["first_loss"] = float(side.seen)
    return side


def race(workers: Mapping[str, Worker], rounds: int, steps: int) -> dict[str, list[float]]:
    """Returns the seconds of a step of each program, by round.

    Each runs in every round; the first of a round is the last of the next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for i in range(rounds):
        for name in list(workers)[:: 1 if i % 2 else -1]:
            seconds[name].append(workers[name]("turn", steps))
    return seconds


def summarize(values: Sequence[float], digits: int) -> dict[str, Any]:
    """Returns median, least and most of the values."""
    return {
        "median": round(median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
    }


@dataclass(frozen=True)
class Peer:
    """A program of another project.

    Attributes:
      package: Package that must be installed.
      make: `Program` of a task.
      variants: Name of a network here -> the variant that computes the same.
      whats: Tasks that it can do.
    """

    package: str
    make: Callable[[Task], Program]
    variants: Mapping[str, str | None]
    whats: tuple[str, ...] = (TRAINING, INFERENCE)


def variants(*sources: str) -> dict[str, str]:
    """Returns network -> variant, of the first of these sources that has it."""
    return {
        model: origin.variant
        for source in reversed(sources)
        for model, origin in SOURCES[source].items()
    }


def torch_peers(source: str) -> dict[str, Peer]:
    forms = {
        "compiled": (TRAINING, INFERENCE),
        "eager": (TRAINING, INFERENCE),
        "frozen": (INFERENCE,),
        "traced": (INFERENCE,),
    }
    return {
        f"{source}_{form}": Peer(
            source, partial(Torch, source=source, form=form), variants(source), whats
        )
        for form, whats in forms.items()
    }


def groups(task: Task, peers: Mapping[str, Peer]) -> list[tuple[Task, dict[str, Peer]]]:
    """Yields the peers that can do a task, with the task in the variant that they compute.

    Peers with equal tables are together.
    """
    found: dict[Any, tuple[Task, dict[str, Peer]]] = {}
    for name, peer in peers.items():
        if task.model in peer.variants and task.what in peer.whats:
            own = replace(task, variant=peer.variants[task.model])
            table = own.network().architecture
            found.setdefault((table.layers, table.unit), (own, {}))[1][name] = peer
    return list(found.values())


Made = Mapping[str, Callable[[Task], Program]]


def beside(
    task: Task, ours: Made, peers: Mapping[str, Peer], rounds: int, steps: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each peer's name and results as soon as they are there, and last those of `ours`."""
    own: dict[str, Side] = {}
    facts: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, make in ours.items():
            try:
                own[name] = readied(
                    stack.enter_context(Worker(partial(make, task))), task, own.get("ours")
                )
            except ProgramError as error:
                facts[name] = {"failed": str(error)}
        for name, peer in peers.items():
            if "ours" not in own:
                yield name, {"failed": "ours could not be run"}
            elif find_spec(peer.package) is None:
                yield name, {"missing": f"{peer.package} is not installed"}
            else:
                with Worker(partial(peer.make, task)) as worker:
                    try:
                        yield name, against(task, own, worker, rounds, steps)
                    except ProgramError as error:
                        yield name, {"failed": str(error)}
        for name, side in own.items():
            try:
                facts[name] = side.facts | side.worker("end")
            except ProgramError as error:
                facts[name] = side.facts | {"failed": str(error)}
    yield "ours", facts


def against(
    task: Task, own: Mapping[str, Side], worker: Worker, rounds: int, steps: int
) -> dict[str, Any]:
    """Returns the results of a peer timed with all of ours.

    Raises:
      ProgramError: It cannot run, or computes something else.
    """
    side = readied(worker, task, own["ours"])
    seconds = race(
        {name: one.worker for name, one in own.items()} | {"peer": worker}, rounds, steps
    )
    ratios = {
        name: [b / a for a, b in zip(seconds[name], seconds["peer"], strict=True)] for name in own
    }
    return {
        "variant": task.variant,
        "rounds": rounds,
        "steps": steps,
        "images_per_second": {
            name: summarize([task.batch / one for one in values], 2)
            for name, values in seconds.items()
        },
        "times_as_fast": {
            name: summarize(values, 3) | {"by_round": [round(one, 3) for one in values]}
            for name, values in ratios.items()
        },
        "peer": side.facts | worker("end"),
    }


def bar(what: str, at_least: float, measured: float | None, **more: Any) -> dict[str, Any]:
    """Returns a bar with the measurement; `met` is None without one."""
    measured = None if measured is None or not isfinite(measured) else round(measured, 3)
    return {
        "what": what,
        "at_least": at_least,
        "measured": measured,
        "met": None if measured is None else measured >= at_least,
        **more,
    }


def faster(peers: Mapping[str, Any], name: str, ours: str = "ours") -> float | None:
    """Returns the speed-up of one of ours over a peer, the median of the rounds."""
    ratios = peers.get(name, {}).get("times_as_fast", {})
    return ratios[ours]["median"] if ours in ratios else None


def line(
    doc: str | None, *, models: Sequence[str], peers: Sequence[str], rounds: int, steps: int
) -> argparse.ArgumentParser:
    parser = make_parser(doc)
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument(
        "--what", nargs="+", choices=(TRAINING, INFERENCE), default=(TRAINING, INFERENCE)
    )
    parser.add_argument("--peers", nargs="+", default=peers)
    parser.add_argument("--image-size", type=int, help="instead of the network's own")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="in each turn")
    parser.add_argument(
        "--add", action="store_true", help="to what the results hold, instead of beginning anew"
    )
    parser.add_argument(
        "--caches",
        action="store_true",
        help="find what was compiled before: compile_seconds are then not of a first time",
    )
    return parser


def compare(
    file: Path, options: argparse.Namespace, tasks: Sequence[Task], ours: Mapping[str, Made],
    peers: Mapping[str, Peer], judged: Callable[[Task, dict[str, Any]], dict[str, Any]],
    packages: Sequence[str], **facts: Any,
) -> None:  # fmt: skip
    """Runs all tasks, and writes {what: {model: ...}} to `file` after each peer.

    Args:
      ours: what -> programs of ours; all are compared with the one called `ours`.
      judged: Returns the bars and notes of an entry, which has `peers` and `ours`.
    """
    if unknown := set(options.peers) - set(peers):
        sys.exit(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peers)}")
    figures = read_results(file).get("figures", {}) if options.add else {}
    text = ""
    for task in tasks:
        before = figures.get(task.what, {}).get(task.model, {}).get("task")
        if before and before != {**asdict(task), "variant": None}:
            sys.exit(
                f"the results hold {task.model}, {task.what}, as {before}: without --add they "
                "begin anew"
            )
        entry = figures.setdefault(task.what, {}).setdefault(task.model, {})
        entry |= {
            "task": {**asdict(task), "variant": None},
            "ours": entry.get("ours", {}),
            "peers": entry.get("peers", {}),
        }
        for own, chosen in groups(task, {peer: peers[peer] for peer in options.peers}):
            for peer, found in beside(own, ours[task.what], chosen, options.rounds, options.steps):
                if peer == "ours":
                    entry["ours"][own.variant or "default"] = found
                else:
                    entry["peers"][peer] = found
                entry |= judged(task, entry)
                said = {"figures": figures, "in_pieces": options.add, **facts}
                text = write_results(file, said, packages)
                print(
                    f"{task.model}, {task.what}, {peer}: {brief(found)}",
                    file=sys.stderr,
                    flush=True,
                )
    print(text)


def brief(found: Mapping[str, Any]) -> str:
    if "times_as_fast" not in found:
        return found.get("failed") or found.get("missing") or "done"
    return ", ".join(
        f"{name} {found['images_per_second'][name]['median']} images/s, {ratio['median']} times "
        f"({ratio['least']} to {ratio['most']})"
        for name, ratio in found["times_as_fast"].items()
    )
