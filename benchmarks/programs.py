"""What is run side by side: our programs, PyTorch's, and the work that both do.

Ours for inference has its norms folded and its kernels in the precision that they are used in;
PyTorch's keeps them, casts under autocast, and folds in its form `frozen` alone. In training all
take `step.py`'s step; ours and Keras's is one program with the optimizer, PyTorch's optimizer is
its own (foreach; on a GPU compiled too where the network is), and has the epsilon outside the root:
the same work, other losses after the first step. On a GPU XLA runs command buffers (CUDA graphs) by
default, and `torch.compile` does under max-autotune.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.plain_flax import Plain, theirs
from benchmarks.random_variables import variables as invented
from benchmarks.step import DECAY, EPSILON, LEARNING_RATE, MOMENTUM, OPTIMIZER, step_of
from inception_jax.distributed.mesh import COMPILER_OPTIONS, all_devices_placement
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.plan.compiled_step import summarize_program
from inception_jax.spec.rewrite import select_rewrites
from inception_jax.weights.convert import conversion as convert
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.export.folding import fold_norms, merge_sibling_kernels
from inception_jax.weights.reference.reference_models import TORCH_NETWORKS

TRAINING, INFERENCE = "training", "inference"
CHECKED = 2
"""Images whose logits are compared."""
WARM = 3
"""Steps after the first that are not timed: PyTorch's graphs are recorded in them."""
UNTUNED = {"cpu": {"xla_backend_optimization_level": 0}, "gpu": {"xla_gpu_autotune_level": 0}}
"""For programs that run once: compiling is what takes the time."""


@dataclass(frozen=True)
class Task:
    """A task of all programs.

    Attributes:
      what: `training` (`step.py`) or `inference` (images to logits).
      platform: `cpu` or `gpu`.
      variant: Variant of our table whose function the peer computes.
      caches: Whether compiled programs may be found again.
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
        """Returns the network without dropout, which not all projects have, to compare losses."""
        return create(self.model, variant=self.variant, dropout_rate=0.0)

    def images(self, count: int | None = None) -> np.ndarray:
        """Returns [count or batch, size, size, 3] float32; the first are equal for any count."""
        return (
            np.random.default_rng(0)
            .uniform(-1, 1, (count or self.batch, self.size, self.size, 3))
            .astype(np.float32)
        )

    def labels(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, self.network().num_classes, self.batch)


class ProgramError(Exception):
    """A program that cannot be made or run, or computes something else."""


class Program:
    """One side: what a worker's process holds."""

    def __init__(self, task: Task):
        self.task = task
        self._idle = self._rested = 0.0
        self._last: Any = None

    def logits(self) -> np.ndarray:
        """Returns logits of the first `CHECKED` images in float32; called before anything else."""
        raise NotImplementedError

    def step(self) -> Any:
        """Begins one, and gives back its loss, or its logits."""
        raise NotImplementedError

    def wait(self, last: Any) -> np.ndarray:
        """Waits until every step is done, and returns the last result as an array."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Returns the facts of the program after it has run."""
        return {"memory_peak_bytes": most_held()}

    def start(self) -> tuple[dict[str, Any], np.ndarray]:
        """Compiles and warms up; returns the seconds of the first step, and its loss or logits."""
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
        """Returns the program's facts, and its processor time while others ran."""
        last = self.wait(self._last)
        if not np.isfinite(last).all():
            raise ProgramError("it came to numbers that are none")
        return {
            **self.facts(),
            "idle_cpu_seconds": round(self._idle, 3),
            **({"last_loss": float(last)} if last.ndim == 0 else {}),
        }


def most_held() -> int:
    """Bytes of memory that this process has had at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Flax(Program):
    """Our program on this platform, rewritten, and folded for inference.

    With `plain` it is the same table in plain Flax.
    """

    def __init__(self, task: Task, plain: bool = False):
        super().__init__(task)
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[task.platform])
        jax.config.update("jax_enable_compilation_cache", task.caches)
        network = task.network()
        self._plain, self._variables = plain, invented(network, image_size=task.size)
        if plain:
            self._network: Any = Plain(network.architecture, network.num_classes)
            self._variables = theirs(
                self._variables,
                jax.eval_shape(self._network.init, jax.random.key(0), task.images(1)),
            )
        else:
            self._network = network.clone(
                rewrites=select_rewrites(network.architecture, task.platform)
            )
        self._program: Any = None
        self._state: list[Any] = []

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
        self._images, self._labels = jax.device_put(
            (self.task.images(), self.task.labels().astype(np.int32))
        )
        if self.task.what == TRAINING:
            state = (
                variables["params"],
                variables.get("batch_stats", {}),
                jax.jit(OPTIMIZER.init)(variables["params"]),
            )
            run = jax.jit(step_of(network), donate_argnums=(0, 1, 2))
            if not self._plain:  # as a run holds its state and compiles its step
                placement = all_devices_placement()
                state = placement.arrange_state(state)
                run = jax.jit(
                    step_of(network),
                    donate_argnums=(0, 1, 2),
                    out_shardings=(*placement.state_format(state), placement.replicated),
                    compiler_options=COMPILER_OPTIONS.get(placement.platform),
                )
            self._state = list(state)
            self._program = run.lower(*self._state, self._images, self._labels).compile()
            return
        if not self._plain:
            network, variables = merge_sibling_kernels(*fold_norms(network, variables))
            # Kernels of convolutions in the precision that they are used in; the classifier is
            # computed in float32.
            variables = jax.tree.map(
                lambda leaf: leaf.astype(network.dtype) if leaf.ndim == 4 else leaf, variables
            )
        self._state = [jax.device_put(variables), self._images]
        self._program = (
            jax.jit(lambda variables, images: network.apply(variables, images).logits)
            .lower(*self._state)
            .compile()
        )

    def wait(self, last: Any) -> np.ndarray:
        return np.asarray(jax.block_until_ready(last))

    def facts(self) -> dict[str, Any]:
        about = jax.devices()[0].memory_stats()
        program = summarize_program(self._program)
        return {
            "memory_peak_bytes": about["peak_bytes_in_use"] if about else most_held(),
            "program_flops": int(program["flops_per_chip"]),
            "program_bytes": int(program["bytes_per_chip"]),
            "program_memory_bytes": program["memory_bytes"],
            "rewrites": list(getattr(self._network, "rewrites", ())),
        }


class Torch(Program):
    """A network of `source` in PyTorch, channels last.

    On a GPU it runs under bfloat16's autocast on request. Forms: `eager`; `compiled` by
    torch.compile, on a GPU with max-autotune; `frozen`, the same with constant weights, so that
    norms are folded; `traced`, torch.jit's, frozen. The last two are for inference.
    """

    def __init__(self, task: Task, source: str, form: str):
        super().__init__(task)
        jax.config.update(
            "jax_platforms", "cpu"
        )  # it names and draws the weights here, and takes nothing of a GPU
        if not task.caches:
            os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        import torch

        self._torch, self._form = torch, form
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = (
            False  # logits are compared in float32; what is timed is in bfloat16
        )
        self._device = torch.device({"cpu": "cpu", "gpu": "cuda"}[task.platform])
        module = TORCH_NETWORKS[source](task.model, 1000, False)
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        network, origin = task.network(), SOURCES[source][task.model]
        arrays = convert.to_theirs(origin, network, invented(network, image_size=task.size))
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
            self._images, self._labels = (
                self._pixels(),
                self._torch.from_numpy(self.task.labels()).to(self._device),
            )
            self._run = self._training() if self.task.what == TRAINING else self._inference()
        if self._form == "compiled" and self.task.platform == "gpu":
            self._torch.compiler.cudagraph_mark_step_begin()
        return self._run()

    def _autocast(self) -> Any:
        return self._torch.autocast(
            self._device.type, self._torch.bfloat16, enabled=self.task.dtype == "bfloat16"
        )

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._form not in ("compiled", "frozen"):
            return function
        import torch._inductor.config as inductor

        inductor.freezing = self._form == "frozen"
        return self._torch.compile(
            function, mode="max-autotune" if self.task.platform == "gpu" else None
        )

    def _training(self) -> Callable[[], Any]:
        torch, module = self._torch, self._module.train()
        optimizer = torch.optim.RMSprop(
            module.parameters(), LEARNING_RATE, alpha=DECAY, eps=EPSILON, momentum=MOMENTUM
        )

        @self._compiled
        def loss(images, labels):
            return torch.nn.functional.cross_entropy(module(images), labels)

        # Without graphs: those of the network own the gradients' memory.
        is_gpu = self.task.platform == "gpu"
        is_update_compiled = is_gpu and self._form == "compiled"
        update = torch.compile(optimizer.step) if is_update_compiled else optimizer.step

        def step():
            optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                value = loss(self._images, self._labels)
            value.backward()
            update()
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
        return (
            {"memory_peak_bytes": self._torch.cuda.max_memory_allocated()}
            if self.task.platform == "gpu"
            else super().facts()
        )
