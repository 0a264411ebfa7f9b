"""A trained network as one ONNX file, written from its table: Conv, Relu, MaxPool and Concat, and nothing of how JAX computes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.augment import SCALINGS
from inception_jax.nn.network import Network
from inception_jax.spec.geometry import kernel_on, slide
from inception_jax.spec.measure import expansion
from inception_jax.spec.vocabulary import (
    Activation,
    Concat,
    Conv,
    Dropout,
    Linear,
    LocalResponse,
    Norm,
    Pool,
    Residual,
    Steps,
    Unit,
    Word,
    named,
)
from inception_jax.weights.folding import folded
from inception_jax.weights.tree import flat

OPSET = 17
Shape = tuple[int, ...]
Value = tuple[str, Shape]
"""A tensor by its name, and the shape of one example of it, (height, width, channels) or (features,)."""


def exported(
    network: Network,
    variables: Mapping[str, Any],
    *,
    image_size: int,
    scaling: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The file: float32 [batch, size, size, 3] to `logits` [batch, K], for any batch.

    With `scaling`, uint8 pixels to `probabilities`, as `augment.scale` prepares them.

    Args:
      metadata: texts by name, for `metadata_props`.

    Raises:
      ConfigError: onnx is not installed, or the network has a word that ONNX has nothing for.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"ONNX files are written with onnx ({error}): pip install 'inception-jax[onnx]'") from error
    network, leaves = folded(network, variables)
    table = network.architecture if network.num_classes else network.architecture.embedding
    graph = _Graph(onnx, table.unit, {path: np.asarray(leaf, np.float32) for path, leaf in flat(leaves).items()}, network.num_classes)
    size = (image_size, image_size, table.channels)
    fed = (image_size, image_size, 3 if scaling else table.channels)
    value: Value = (graph.prepared("images", scaling, table.channels), size)
    for name, steps in table.layers:
        value = graph.steps(steps, value, name)
        if name == table.logits:
            break
    output = "logits"
    graph.add("Identity", [value[0]], output)
    if scaling:
        graph.add("Softmax", [output], "probabilities", axis=1)
        output = "probabilities"
    kinds = onnx.TensorProto
    inputs = onnx.helper.make_tensor_value_info("images", kinds.UINT8 if scaling else kinds.FLOAT, ["batch", *fed])
    outputs = onnx.helper.make_tensor_value_info(output, kinds.FLOAT, ["batch", value[1][-1]])
    made = onnx.helper.make_graph(graph.nodes, table.name, [inputs], [outputs], graph.weights)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="inception_jax")
    model.ir_version = 8  # what readers of opset 17 know
    onnx.helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes as they are added; each returns the name of its result."""

    def __init__(self, onnx: Any, unit: Unit, leaves: Mapping[str, np.ndarray], num_classes: int):
        self._onnx, self._unit, self._leaves, self._num_classes = onnx, unit, leaves, num_classes
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, name: str, array: Any) -> str:
        self.weights.append(self._onnx.numpy_helper.from_array(np.array(array), name))
        return name

    def prepared(self, images: str, scaling: str | None, channels: int) -> str:
        """Channels first, and scaled where pixels come in. A network of one channel sees the first."""
        if scaling:
            mean, deviation = np.array(SCALINGS[scaling])[:, None, None, :channels]
            images = self.add("Cast", [images], to=1)
            if channels < 3:
                ends = [self.weight(f"first_{name}", np.array([value], np.int64)) for name, value in (("from", 0), ("to", channels))]
                images = self.add("Slice", [images, *ends, self.weight("first_axis", np.array([3], np.int64))])
            images = self.add("Div", [images, self.weight("deviation", np.float32(255 * deviation))])
            images = self.add("Sub", [images, self.weight("mean", np.float32(mean / deviation))])
        return self.add("Transpose", [images], perm=[0, 3, 1, 2])

    def steps(self, steps: Steps, value: Value, path: str) -> Value:
        for name, word in named(steps):
            value = self.word(word, value, path if isinstance(word, Concat | Residual) else f"{path}/{name}")
        return value

    def word(self, word: Word, value: Value, path: str) -> Value:
        match word:
            case Conv():
                return self.conv(word, value, path)
            case Linear():
                return self.linear(word, value, path)
            case Pool():
                return self.pool(word, value, path)
            case Norm():
                return self.activated(self.norm(value[0], path), word.activation), value[1]
            case Concat():
                branches = [self.steps(branch, value, f"{path}/branch_{i}") for i, branch in enumerate(word.branches)]
                height, width, _ = branches[0][1]
                joined = self.add("Concat", [name for name, _ in branches], axis=1)
                return joined, (height, width, sum(shape[-1] for _, shape in branches))
            case Residual():
                return self.residual(word, value, path)
            case LocalResponse():
                return self.add("LRN", [value[0]], size=word.size, alpha=word.alpha, beta=word.beta, bias=word.k), value[1]
            case Dropout():
                return value
        raise ConfigError(f"{path}: {type(word).__name__.lower()} has no ONNX here")

    def conv(self, word: Conv, value: Value, path: str, scale: float = 1.0) -> Value:
        name, (height, width, channels) = value
        kernel = kernel_on(word, height, width)
        (rows, columns), pads = self._spans(word, (height, width), kernel)
        window: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(word.stride), "pads": pads}
        if word.depth_multiplier:
            depthwise = self._leaves[f"params/{path}/depthwise_kernel"].transpose(3, 2, 0, 1)
            name = self.add("Conv", [name, self.weight(f"{path}/depthwise_kernel", depthwise)], group=channels, **window)
            window = {"kernel_shape": [1, 1]}
        weights = self._leaves[f"params/{path}/kernel"].transpose(3, 2, 0, 1) * np.float32(scale)
        inputs = [name, self.weight(f"{path}/kernel", weights)]
        if f"params/{path}/bias" in self._leaves:
            inputs.append(self.weight(f"{path}/bias", self._leaves[f"params/{path}/bias"] * np.float32(scale)))
        return self.activated(self.add("Conv", inputs, **window), word.activation), (rows, columns, len(weights))

    def linear(self, word: Linear, value: Value, path: str) -> Value:
        name, shape = value
        if len(shape) == 3:  # ours are flattened with their channels last
            name = self.add("Transpose", [name], perm=[0, 2, 3, 1])
        kernel = self._leaves[f"params/{path}/kernel"]
        inputs = [self.add("Flatten", [name]), self.weight(f"{path}/kernel", kernel)]
        if f"params/{path}/bias" in self._leaves:
            inputs.append(self.weight(f"{path}/bias", self._leaves[f"params/{path}/bias"]))
        return self.activated(self.add("Gemm", inputs), word.activation), kernel.shape[-1:]

    def pool(self, word: Pool, value: Value, path: str) -> Value:
        name, (height, width, channels) = value
        if word.grid:
            raise ConfigError(f"{path}: an adaptive pool has no ONNX here")
        if word.kernel is None:
            pooled = self.add("GlobalAveragePool" if word.kind == "avg" else "GlobalMaxPool", [name])
            return self.add("Flatten", [pooled]), (channels,)
        kernel = kernel_on(word, height, width)
        (rows, columns), pads = self._spans(word, (height, width), kernel)
        window: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(word.stride)}
        if word.kind == "avg":
            count = int(self._unit.count_include_pad and word.padding != "ceil")
            return self.add("AveragePool", [name], pads=pads, count_include_pad=count, **window), (rows, columns, channels)
        name = self.add("MaxPool", [name], pads=pads, **window)
        if word.pad_value is not None:
            # Not a Pad before it: onnxruntime 1.31 makes one of the two, and pads with minus infinity instead.
            outside = [
                [start < 0 or start + kernel[i] > size for start in (np.arange(count) * word.stride[i] - pads[i]).tolist()]
                for i, (size, count) in enumerate(((height, rows), (width, columns)))
            ]
            least = np.where(np.logical_or.outer(*outside), np.float32(word.pad_value), np.finfo(np.float32).min)
            name = self.add("Max", [name, self.weight(f"{path}/border", least[None, None])])
        return name, (rows, columns, channels)

    def residual(self, word: Residual, value: Value, path: str) -> Value:
        inputs: Value = (self.activated(self.norm(value[0], f"{path}/norm"), None), value[1]) if word.preactivation else value
        name, shape = self.steps(word.branch, inputs, path)
        if word.up:
            name, shape = self.conv(expansion(value[1][-1]), (name, shape), f"{path}/up", word.scale)
        elif word.scale != 1:
            name = self.add("Mul", [name, self.weight(f"{path}/scale", np.float32(word.scale))])
        shortcut = value[0]
        if word.shortcut == "pad":
            shortcut = self.add("MaxPool", [shortcut], kernel_shape=[1, 1], strides=list(word.stride))
            around = np.array([0, 0, 0, 0, 0, shape[-1] - value[1][-1], 0, 0], np.int64)
            shortcut = self.add("Pad", [shortcut, self.weight(f"{path}/pads", around)])
        elif word.shortcut is not None:
            shortcut, _ = self.steps(word.shortcut, inputs, f"{path}/shortcut")
        total = self.add("Add", [shortcut, name])
        return self.activated(self.norm(total, f"{path}/sum_norm") if word.norm else total, word.activation), shape

    def norm(self, name: str, path: str) -> str:
        beta, mean = self._leaves[f"params/{path}/bias"], self._leaves[f"batch_stats/{path}/mean"]
        gamma = self._leaves.get(f"params/{path}/scale", np.ones_like(beta))
        arrays = {"scale": gamma, "bias": beta, "mean": mean, "var": self._leaves[f"batch_stats/{path}/var"]}
        inputs = [name, *(self.weight(f"{path}/{array}", value) for array, value in arrays.items())]
        return self.add("BatchNormalization", inputs, epsilon=self._unit.norm_epsilon)

    def activated(self, name: str, activation: Activation | None) -> str:
        kind = activation or self._unit.activation
        return name if kind == "linear" else self.add({"relu": "Relu", "sigmoid": "Sigmoid"}[kind], [name])

    def _spans(self, word: Conv | Pool, size: Shape, kernel: Shape) -> tuple[Shape, list[int]]:
        """The size of the map that comes out, and what is padded: above, left, below, right."""
        rows, columns = (slide(size[i], kernel[i], word.stride[i], word.padding, self._unit.same) for i in (0, 1))
        return (rows.size, columns.size), [rows.before, columns.before, rows.after, columns.after]
