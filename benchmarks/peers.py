"""Programs of ours and of other projects side by side: what `peers_cpu.py`, `peers_gpu.py` and `growth.py` share.

Each program lives in a process of its own, with its own allocator and its own threads, and does nothing until it is asked through a pipe.
One peer at a time is beside ours: first both have to give the same logits from the same weights, in float32; then both are compiled and
warmed; then they are timed in rounds, turn about, so that a slow spell of the machine meets both. Each round has its ratio.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from math import isfinite
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import RESULTS, keep
from benchmarks.plain_flax import Plain, theirs
from benchmarks.step import DECAY, EPSILON, LEARNING_RATE, MOMENTUM, OPTIMIZER, step_of
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.plan.compiled import account
from inception_jax.spec.rewrite import best
from inception_jax.weights import convert
from inception_jax.weights.folding import folded, merged
from inception_jax.weights.projects import TORCH, versions
from inception_jax.weights.sources import SOURCES
from tests.invented import variables as invented

TRAINING, INFERENCE = "training", "inference"
CHECKED = 2
"""Images whose logits are compared."""
WARM = 3
"""Steps after the first that are not timed: PyTorch's graphs are recorded in them."""
BOUND = 1e-4
"""Of max|a - b| / max|b| of logits in float32, above which two programs are not the same function."""
AS_TIMED = {"float32": 1e-3, "bfloat16": 0.1}
"""The same of what the timed programs themselves give, in their own precision: logits, or the loss of the first step."""
UNTUNED = {"cpu": {"xla_backend_optimization_level": 0}, "gpu": {"xla_gpu_autotune_level": 0}}
"""For programs that run once: compiling is what takes the time."""


@dataclass(frozen=True)
class Task:
    """What every program does.

    Attributes:
      what: `training` (`step.py`) or `inference` (images to logits).
      platform: `cpu` or `gpu`.
      variant: of our table: the one whose function the peer computes.
      caches: whether what was compiled before may be found again.
    """

    what: str
    model: str
    batch: int
    size: int
    dtype: str
    platform: str
    variant: str | None = None
    caches: bool = False

    def network(self) -> Network:
        """Without dropout, which some projects have and others not: so losses can be compared, too."""
        return create(self.model, variant=self.variant, dropout_rate=0.0)

    def images(self, count: int | None = None) -> np.ndarray:
        """[count or batch, size, size, 3] float32; the first ones are the same for any count."""
        return np.random.default_rng(0).uniform(-1, 1, (count or self.batch, self.size, self.size, 3)).astype(np.float32)

    def labels(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 1000, self.batch)


class ProgramError(Exception):
    """A program that cannot be made or run, or that computes something else; the message says what is known."""


class Program:
    """One side: what a worker's process holds."""

    def __init__(self, task: Task):
        self.task = task
        self._idle = self._rested = 0.0
        self._last: Any = None

    def logits(self) -> np.ndarray:
        """Of the first `CHECKED` images, in evaluation and float32. Asked for before anything else."""
        raise NotImplementedError

    def step(self) -> Any:
        """Begins one, and gives back its loss, or its logits."""
        raise NotImplementedError

    def wait(self, last: Any) -> np.ndarray:
        """Until everything is done that was begun; what `step` gave, as an array."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What is known of the program when it has run."""
        return {"memory_peak_bytes": most_held()}

    def start(self) -> tuple[dict[str, Any], np.ndarray]:
        """Compiles, and warms up: the seconds until the first step was done, and its loss or the first logits."""
        began = time.perf_counter()
        first = self.wait(self.step())
        found = {"compile_seconds": round(time.perf_counter() - began, 2)}
        for _ in range(WARM):
            self._last = None
            self._last = self.step()
        self.wait(self._last)
        self._rested = time.process_time()
        return found, first if self.task.what == TRAINING else first[:CHECKED]

    def turn(self, steps: int) -> float:
        """Seconds of one step, over as many."""
        self._idle += time.process_time() - self._rested
        began = time.perf_counter()
        for _ in range(steps):
            self._last = None  # PyTorch's graphs write where the last result was
            self._last = self.step()
        self.wait(self._last)
        seconds = (time.perf_counter() - began) / steps
        self._rested = time.process_time()
        return seconds

    def end(self) -> dict[str, Any]:
        """The program's facts, and the processor's time that it took when it was not its turn."""
        last = self.wait(self._last)
        if not np.isfinite(last).all():
            raise ProgramError("it came to numbers that are none")
        return {**self.facts(), "idle_cpu_seconds": round(self._idle, 3), **({"last_loss": float(last)} if last.ndim == 0 else {})}


def most_held() -> int:
    """Bytes of memory that this process has had at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Flax(Program):
    """Ours as it runs on this platform: rewritten, and folded for inference; with `plain`, the same table in plain Flax."""

    def __init__(self, task: Task, plain: bool = False):
        super().__init__(task)
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[task.platform])
        jax.config.update("jax_enable_compilation_cache", task.caches)
        network = task.network()
        self._plain, self._variables = plain, invented(network, image_size=task.size)
        if plain:
            self._network: Any = Plain(network.architecture)
            self._variables = theirs(self._variables, jax.eval_shape(self._network.init, jax.random.key(0), task.images(1)))
        else:
            self._network = network.clone(rewrites=best(network.architecture, task.platform))
        self._program: Any = None

    def logits(self) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            apply = jax.jit(self._network.apply, compiler_options=UNTUNED[self.task.platform])
            return np.asarray(apply(self._variables, self.task.images(CHECKED)).logits)

    def step(self) -> Any:
        if self._program is None:
            self._compile()
        if self.task.what == INFERENCE:
            return self._program(*self._state)
        *self._state, loss = self._program(*self._state, self._images, self._labels)
        return loss

    def _compile(self) -> None:
        network, variables = self._network.clone(dtype=jnp.dtype(self.task.dtype)), self._variables
        self._images, self._labels = jax.device_put((self.task.images(), self.task.labels().astype(np.int32)))
        if self.task.what == TRAINING:
            self._state = [variables["params"], variables["batch_stats"], jax.jit(OPTIMIZER.init)(variables["params"])]
            run = jax.jit(step_of(network), donate_argnums=(0, 1, 2))
            self._program = run.lower(*self._state, self._images, self._labels).compile()
            return
        if not self._plain:
            network, variables = merged(*folded(network, variables))
            # Kernels of convolutions in the precision that they are used in; the classifier is computed in float32.
            variables = jax.tree.map(lambda leaf: leaf.astype(network.dtype) if leaf.ndim == 4 else leaf, variables)
        self._state = [jax.device_put(variables), self._images]
        self._program = jax.jit(lambda variables, images: network.apply(variables, images).logits).lower(*self._state).compile()

    def wait(self, last: Any) -> np.ndarray:
        return np.asarray(jax.block_until_ready(last))

    def facts(self) -> dict[str, Any]:
        about = jax.devices()[0].memory_stats()
        program = account(self._program)
        return {
            "memory_peak_bytes": about["peak_bytes_in_use"] if about else most_held(),
            "program_flops": int(program["flops_per_chip"]),
            "program_bytes": int(program["bytes_per_chip"]),
            "program_memory_bytes": program["memory_bytes"],
            "rewrites": list(getattr(self._network, "rewrites", ())),
        }


class Torch(Program):
    """A network of `source` in PyTorch, channels last; on a GPU under bfloat16's autocast where the task says so.

    Forms: `eager`; `compiled` by torch.compile, on a GPU with max-autotune; `frozen`, that with weights as constants, so that norms are
    folded; `traced`, torch.jit's, frozen. The last two are for inference.
    """

    def __init__(self, task: Task, source: str, form: str):
        super().__init__(task)
        jax.config.update("jax_platforms", "cpu")  # it names and draws the weights here, and takes nothing of a GPU
        if not task.caches:
            os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        import torch

        self._torch, self._form = torch, form
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # logits are compared in float32; what is timed is in bfloat16
        self._device = torch.device({"cpu": "cpu", "gpu": "cuda"}[task.platform])
        module = TORCH[source](task.model, 1000, False)
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        network, origin = task.network(), SOURCES[source][task.model]
        arrays = convert.theirs(origin, network, invented(network, image_size=task.size))
        state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        module.load_state_dict({**module.state_dict(), **state})
        self._module = module.to(self._device, memory_format=torch.channels_last).eval()
        self._run: Any = None

    def _pixels(self, count: int | None = None) -> Any:
        images = self._torch.from_numpy(self.task.images(count)).to(self._device)
        return images.permute(0, 3, 1, 2).contiguous(memory_format=self._torch.channels_last)

    def logits(self) -> np.ndarray:
        with self._torch.inference_mode():
            return self._module(self._pixels(CHECKED)).cpu().numpy()

    def step(self) -> Any:
        if self._run is None:
            self._images, self._labels = self._pixels(), self._torch.from_numpy(self.task.labels()).to(self._device)
            self._run = self._training() if self.task.what == TRAINING else self._inference()
        if self._form == "compiled" and self.task.platform == "gpu":
            self._torch.compiler.cudagraph_mark_step_begin()
        return self._run()

    def _autocast(self) -> Any:
        return self._torch.autocast(self._device.type, self._torch.bfloat16, enabled=self.task.dtype == "bfloat16")

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._form not in ("compiled", "frozen"):
            return function
        import torch._inductor.config as inductor

        inductor.freezing = self._form == "frozen"
        return self._torch.compile(function, mode="max-autotune" if self.task.platform == "gpu" else None)

    def _training(self) -> Callable[[], Any]:
        torch, module = self._torch, self._module.train()
        optimizer = torch.optim.RMSprop(module.parameters(), LEARNING_RATE, alpha=DECAY, eps=EPSILON, momentum=MOMENTUM)

        @self._compiled
        def loss(images, labels):
            return torch.nn.functional.cross_entropy(module(images), labels)

        def step():
            optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                value = loss(self._images, self._labels)
            value.backward()
            optimizer.step()
            return value.detach()

        return step

    def _inference(self) -> Callable[[], Any]:
        torch, run = self._torch, self._compiled(self._module)
        if self._form == "traced":
            with torch.no_grad(), self._autocast():
                run = torch.jit.freeze(torch.jit.trace(self._module, self._images))

        def step():
            with torch.inference_mode(), self._autocast():
                return run(self._images)

        return step

    def wait(self, last: Any) -> np.ndarray:
        if self.task.platform == "gpu":
            self._torch.cuda.synchronize()
        return last.float().cpu().numpy()

    def facts(self) -> dict[str, Any]:
        return {"memory_peak_bytes": self._torch.cuda.max_memory_allocated()} if self.task.platform == "gpu" else super().facts()


SPAWN = multiprocessing.get_context("spawn")


class Worker:
    """What `make` makes, in a process of its own; called with the name of a method and its arguments."""

    def __init__(self, make: Callable[[], Any]):
        self._pipe, there = SPAWN.Pipe()
        self._process = SPAWN.Process(target=serve, args=(there, make))
        self._process.start()
        there.close()

    def __call__(self, method: str, *arguments: Any) -> Any:
        """
        Raises:
          ProgramError: the method raised something, or the process is no more.
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
            told = f"{error}" if isinstance(error, ProgramError) else f"{type(error).__name__}: {error}"
            pipe.send(ProgramError(told[:600]))


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """max|a - b| / max|b|."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def demand(found: float, bound: float, what: str) -> float:
    """
    Raises:
      ProgramError: it is more, or no number.
    """
    if not found <= bound:
        raise ProgramError(f"not timed: its {what} are {found:.1e} of the largest apart from ours, more than {bound}")
    return found


@dataclass
class Side:
    """A worker, and what is known of it.

    Attributes:
      logits: in float32, before anything was compiled.
      seen: the loss of its first step, or its logits, as it is timed.
    """

    worker: Worker
    logits: np.ndarray
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0))
    facts: dict[str, Any] = field(default_factory=dict)


def readied(worker: Worker, task: Task, ours: Side | None = None) -> Side:
    """A program that is compiled and warm, and computes what `ours` does.

    Raises:
      ProgramError: it cannot, or does not.
    """
    side = Side(worker, worker("logits"))
    reference = ours or side
    side.facts["logits_apart"] = demand(apart(side.logits, reference.logits), BOUND, "logits")
    started, side.seen = worker("start")
    wanted = reference.seen if task.what == TRAINING else reference.logits
    side.facts |= started | {"as_timed_apart": demand(apart(side.seen, wanted), AS_TIMED[task.dtype], "results as they are timed")}
    if task.what == TRAINING:
        side.facts["first_loss"] = float(side.seen)
    return side


def race(workers: Mapping[str, Worker], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of a step of each, by round: each has its turn in every round, the first of one being the last of the next."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for i in range(rounds):
        for name in list(workers)[:: 1 if i % 2 else -1]:
            seconds[name].append(workers[name]("turn", steps))
    return seconds


def told(values: Sequence[float], digits: int) -> dict[str, Any]:
    return {"median": round(median(values), digits), "least": round(min(values), digits), "most": round(max(values), digits)}


@dataclass(frozen=True)
class Peer:
    """Another project's program.

    Attributes:
      package: that has to be installed.
      make: `Program` of a task.
      variants: our name of a network that it has -> our variant that computes the same.
      whats: what it can do.
    """

    package: str
    make: Callable[[Task], Program]
    variants: Mapping[str, str | None]
    whats: tuple[str, ...] = (TRAINING, INFERENCE)


def variants(*sources: str) -> dict[str, str]:
    """Network -> variant, of the first of these sources that has it."""
    return {model: origin.variant for source in reversed(sources) for model, origin in SOURCES[source].items()}


def torch_peers(source: str) -> dict[str, Peer]:
    forms = {"compiled": (TRAINING, INFERENCE), "eager": (TRAINING, INFERENCE), "frozen": (INFERENCE,), "traced": (INFERENCE,)}
    return {
        f"{source}_{form}": Peer(source, partial(Torch, source=source, form=form), variants(source), whats) for form, whats in forms.items()
    }


def groups(task: Task, peers: Mapping[str, Peer]) -> list[tuple[Task, dict[str, Peer]]]:
    """The peers that can do this, with the task in the variant that they compute: those together whose tables are the same."""
    found: dict[Any, tuple[Task, dict[str, Peer]]] = {}
    for name, peer in peers.items():
        if task.model in peer.variants and task.what in peer.whats:
            own = replace(task, variant=peer.variants[task.model])
            table = own.network().architecture
            found.setdefault((table.layers, table.unit), (own, {}))[1][name] = peer
    return list(found.values())


Made = Mapping[str, Callable[[Task], Program]]


def beside(task: Task, ours: Made, peers: Mapping[str, Peer], rounds: int, steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each peer by its name with what was found, as soon as it was; and last `ours`, as far as it could be run."""
    own: dict[str, Side] = {}
    facts: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, make in ours.items():
            try:
                own[name] = readied(stack.enter_context(Worker(partial(make, task))), task, own.get("ours"))
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


def against(task: Task, own: Mapping[str, Side], worker: Worker, rounds: int, steps: int) -> dict[str, Any]:
    """A peer timed with all of ours.

    Raises:
      ProgramError: it cannot run, or computes something else.
    """
    side = readied(worker, task, own["ours"])
    seconds = race({name: one.worker for name, one in own.items()} | {"peer": worker}, rounds, steps)
    ratios = {name: [b / a for a, b in zip(seconds[name], seconds["peer"], strict=True)] for name in own}
    return {
        "variant": task.variant,
        "rounds": rounds,
        "steps": steps,
        "images_per_second": {name: told([task.batch / one for one in values], 2) for name, values in seconds.items()},
        "times_as_fast": {name: told(values, 3) | {"by_round": [round(one, 3) for one in values]} for name, values in ratios.items()},
        "peer": side.facts | worker("end"),
    }


def bar(what: str, at_least: float, measured: float | None, **more: Any) -> dict[str, Any]:
    """A bar next to what was measured; `met` is None where nothing was."""
    measured = None if measured is None or not isfinite(measured) else round(measured, 3)
    return {"what": what, "at_least": at_least, "measured": measured, "met": None if measured is None else measured >= at_least, **more}


def faster(peers: Mapping[str, Any], name: str, ours: str = "ours") -> float | None:
    """How many times as fast as a peer one of ours was, by the median of the rounds."""
    ratios = peers.get(name, {}).get("times_as_fast", {})
    return ratios[ours]["median"] if ours in ratios else None


def line(doc: str | None, *, models: Sequence[str], peers: Sequence[str], rounds: int, steps: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument("--what", nargs="+", choices=(TRAINING, INFERENCE), default=(TRAINING, INFERENCE))
    parser.add_argument("--peers", nargs="+", default=peers)
    parser.add_argument("--image-size", type=int, help="instead of the network's own")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="in each turn")
    parser.add_argument("--add", action="store_true", help="to what the results hold, instead of beginning anew")
    parser.add_argument("--caches", action="store_true", help="find what was compiled before: compile_seconds are then not of a first time")
    return parser


def compare(
    name: str, options: argparse.Namespace, tasks: Sequence[Task], ours: Mapping[str, Made], peers: Mapping[str, Peer],
    judged: Callable[[Task, dict[str, Any]], dict[str, Any]], packages: Sequence[str], **facts: Any,
) -> None:  # fmt: skip
    """Does all tasks, and keeps what was found after each peer in `results/<name>.json`: {what: {model: ...}}.

    Args:
      ours: what -> programs of ours; the one that is called `ours` is what all are held to.
      judged: of an entry, which has `peers` and `ours`, its bars and what else is said of it.
    """
    if unknown := set(options.peers) - set(peers):
        sys.exit(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peers)}")
    file = RESULTS / f"{name}.json"
    figures = json.loads(file.read_text())["figures"] if options.add and file.exists() else {}
    for task in tasks:
        entry = figures.setdefault(task.what, {}).setdefault(task.model, {})
        entry |= {"task": {**asdict(task), "variant": None}, "ours": entry.get("ours", {}), "peers": entry.get("peers", {})}
        for own, chosen in groups(task, {peer: peers[peer] for peer in options.peers}):
            for peer, found in beside(own, ours[task.what], chosen, options.rounds, options.steps):
                if peer == "ours":
                    entry["ours"][own.variant or "default"] = found
                else:
                    entry["peers"][peer] = found
                entry |= judged(task, entry)
                said = {"figures": figures, "in_pieces": options.add, "xla_flags": os.environ.get("XLA_FLAGS", ""), **facts}
                text = keep(name, said, list(versions(*packages)))
                print(f"{task.model}, {task.what}, {peer}: {brief(found)}", file=sys.stderr, flush=True)
    print(text)


def brief(found: Mapping[str, Any]) -> str:
    if "times_as_fast" not in found:
        return found.get("failed") or found.get("missing") or "done"
    return ", ".join(
        f"{name} {found['images_per_second'][name]['median']} images/s, {ratio['median']} times ({ratio['least']} to {ratio['most']})"
        for name, ratio in found["times_as_fast"].items()
    )
