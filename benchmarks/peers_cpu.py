"""Inception on a CPU beside torchvision, timm and Keras on JAX.

    python benchmarks/peers_cpu.py [--models inception_v3] [--what training]

Images/s of a training step (`step.py`) and of inference, 8 images in float32 on all cores, random
inputs; `peers.py` says how programs are held to the same function and timed. Ours is run as JAX
compiles it and, for inference, as the ONNX file that `inception-jax export` writes, by onnxruntime;
both with norms folded into convolutions. `times_as_fast` is ours over the peer, by round.

Writes `results/peers_cpu.json` after each peer; `--what` and `--peers` choose, and `--add` goes on
with what the results hold.
"""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"}

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import Made, Peer, bar, compare, faster, line, torch_peers, variants
from benchmarks.programs import CHECKED, INFERENCE, TRAINING, WARM, Flax, Program, Task
from benchmarks.random_variables import variables as invented
from benchmarks.step import DECAY, EPSILON, LEARNING_RATE, MOMENTUM
from inception_jax.models import get_architecture
from inception_jax.weights.convert import conversion as convert
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.export import onnx
from inception_jax.weights.reference.reference_models import KERAS_NETWORKS


class Onnx(Program):
    """Ours as an ONNX file, run by onnxruntime."""

    def __init__(self, task: Task):
        super().__init__(task)
        import onnxruntime

        network = task.network()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        file = onnx.to_onnx(network, invented(network, image_size=task.size), image_size=task.size)
        self._session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        self._images = task.images()

    def logits(self) -> np.ndarray:
        return self._run(self.task.images(CHECKED))

    def step(self) -> Any:
        return self._run(self._images)

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"images": images})[0]

    def wait(self, last: Any) -> np.ndarray:
        return last


class Keras(Program):
    """A network of keras.applications on JAX.

    It runs `stateless_call` in a compiled function; for inference predict_on_batch if faster.
    """

    def __init__(self, task: Task):
        super().__init__(task)
        import keras

        jax.config.update("jax_enable_compilation_cache", task.caches)
        shape = (task.size, task.size, 3)
        self._network = getattr(keras.applications, KERAS_NETWORKS[task.model])(
            weights=None, classes=1000, classifier_activation=None, input_shape=shape
        )
        network, origin = task.network(), SOURCES["keras"][task.model]
        arrays = convert.to_theirs(origin, network, invented(network, image_size=task.size))
        for layer in self._network.layers:
            for variable in layer.weights:
                variable.assign(arrays.pop(f"{layer.name}/{variable.name}"))
        if arrays:
            raise ValueError(f"Keras has no {', '.join(arrays)}")
        self._order = -1 if origin.blue_first else 1
        self._form = "stateless_call"
        self._compiled: dict[str, float] = {}
        self._run: Callable[[], Any] | None = None

    def _pixels(self, count: int | None = None) -> np.ndarray:
        return np.ascontiguousarray(self.task.images(count)[..., :: self._order])

    def logits(self) -> np.ndarray:
        return np.asarray(self._network(self._pixels(CHECKED), training=False))

    def step(self) -> Any:
        if self._run is None:
            self._run = self._training() if self.task.what == TRAINING else self._inference()
        return self._run()

    def _training(self) -> Callable[[], Any]:
        import keras

        network = self._network
        criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.RMSprop(
            LEARNING_RATE, rho=DECAY, momentum=MOMENTUM, epsilon=EPSILON
        )
        optimizer.build(network.trainable_variables)

        def loss(trained, others, images, labels):
            logits, others = network.stateless_call(trained, others, images, training=True)
            return criterion(labels, logits), others

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def step(trained, others, slots, images, labels):
            (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(
                trained, others, images, labels
            )
            trained, slots = optimizer.stateless_apply(slots, gradients, trained)
            return trained, others, slots, value

        state = [
            [variable.value for variable in kind]
            for kind in (
                network.trainable_variables,
                network.non_trainable_variables,
                optimizer.variables,
            )
        ]
        images, labels = jax.device_put((self._pixels(), self.task.labels().astype(np.int32)))

        def run():
            *state[:], value = step(*state, images, labels)
            return value

        return run

    def _inference(self) -> Callable[[], Any]:
        network, images = self._network, jax.device_put(self._pixels())
        kinds = (network.trainable_variables, network.non_trainable_variables)
        state = [
            [jnp.array(variable.value) for variable in kind] for kind in kinds
        ]  # predict_on_batch gives its own away
        call = jax.jit(
            lambda trained, others, images: network.stateless_call(
                trained, others, images, training=False
            )[0]
        )
        forms = {
            "stateless_call": lambda: call(*state, images),
            "predict_on_batch": lambda: network.predict_on_batch(images),
        }
        seconds = {}
        for name, form in forms.items():
            found = []
            for _ in range(1 + WARM):
                began = time.perf_counter()
                jax.block_until_ready(form())
                found.append(time.perf_counter() - began)
            seconds[name] = min(found)
            self._compiled[name] = round(found[0], 2)
        self._form = min(seconds, key=lambda name: seconds[name])
        return forms[self._form]

    def wait(self, last: Any) -> np.ndarray:
        return np.asarray(jax.block_until_ready(last))

    def facts(self) -> dict[str, Any]:
        alone = (
            {"compile_seconds": self._compiled[self._form]} if self._compiled else {}
        )  # both forms were compiled for inference
        return {**super().facts(), **alone, "form": self._form}


PEERS = {
    "keras": Peer("keras", Keras, variants("keras")),
    **torch_peers("torchvision"),
    **torch_peers("timm"),
}
DEFAULT = (
    "keras",
    "torchvision_compiled",
    "torchvision_frozen",
    "torchvision_eager",
    "torchvision_traced",
    "timm_compiled",
    "timm_eager",
)
OURS: dict[str, Made] = {TRAINING: {"ours": Flax}, INFERENCE: {"ours": Flax, "ours_onnx": Onnx}}


def judged(task: Task, entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the bars, which are of Inception-v3 at 299 pixels and 8 images."""
    if (task.model, task.size, task.batch) != ("inception_v3", 299, 8):
        return {}
    peers = entry["peers"]
    if task.what == TRAINING:
        return {"bars": [bar("training, times Keras on JAX", 1.05, faster(peers, "keras"))]}
    return {
        "bars": [
            bar("inference, times Keras on JAX", 1.1, faster(peers, "keras")),
            exported_bar(peers),
        ]
    }


def exported_bar(peers: dict[str, Any]) -> dict[str, Any]:
    """Returns the bar of the exported file.

    Without torch.compile it compares with the faster of torchvision's other forms, and is marked.
    """
    compiled = faster(peers, "torchvision_compiled", "ours_onnx")
    if compiled is not None or "failed" not in peers.get("torchvision_compiled", {}):
        return bar("inference as ONNX, times torchvision under torch.compile", 0.9, compiled)
    others = [faster(peers, f"torchvision_{form}", "ours_onnx") for form in ("eager", "traced")]
    least = min((one for one in others if one is not None), default=None)
    return bar(
        "inference as ONNX, times torchvision",
        0.9,
        least,
        assumptions="the faster of eager and torch.jit: torch.compile failed here",
    )


def main() -> None:
    parser = line(__doc__, models=("inception_v3",), peers=DEFAULT, rounds=9, steps=2)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    tasks = [
        Task(
            what,
            model,
            options.batch_size,
            options.image_size or get_architecture(model).input_size,
            "float32",
            "cpu",
            caches=options.caches,
        )
        for model in options.models
        for what in options.what
    ]
    packages = ("keras", "torch", "torchvision", "timm", "onnx", "onnxruntime")
    compiler = shutil.which(os.environ.get("CXX", "g++")) or "none"
    compare(
        options.results / "peers_cpu.json",
        options,
        tasks,
        OURS,
        PEERS,
        judged,
        packages,
        cpp_compiler=compiler,
    )


if __name__ == "__main__":
    main()
