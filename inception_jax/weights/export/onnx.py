"""A trained network as an ONNX file, written from its table: Conv, Relu, MaxPool, Concat, ..."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from inception_jax.config import ConfigError
from inception_jax.data.augment import SCALINGS
from inception_jax.nn.network import Network
from inception_jax.spec import vocabulary as v
from inception_jax.spec.measure import Measurement, Row, make_expansion_conv, measure
from inception_jax.spec.vocabulary import (
    Concat,
    Conv,
    Linear,
    Pool,
    Residual,
    Steps,
    Word,
    name_words,
)
from inception_jax.weights.export.folding import fold_norms
from inception_jax.weights.library import load_library

OPSET = 17


def to_onnx(
    network: Network,
    variables: Mapping[str, Any],
    *,
    image_size: int,
    scaling: str | None = None,
    metadata: Mapping[str, str] | None = None,
    end_points: Sequence[str] = (),
) -> bytes:
    """Returns the file: float32 images [batch, size, size, 3] to `logits` [batch, K].

    With `scaling`, uint8 pixels to `probabilities`, scaled as by `augment.scale_pixels`.

    Args:
      metadata: Texts by name, for `metadata_props`.
      end_points: Names of activations that are outputs too, [batch, H, W, C].

    Raises:
      ConfigError: onnx is not installed, or ONNX lacks a word of the network.
    """
    onnx = load_library("onnx", "export")
    network, leaves = fold_norms(network, variables)
    table = network.architecture if network.num_classes else network.architecture.embedding
    arrays = {
        path: np.asarray(leaf, np.float32) for path, leaf in flatten_dict(leaves, sep="/").items()
    }
    measured = measure(network.architecture, image_size=image_size, num_classes=network.num_classes)
    graph = _Graph(onnx, measured, arrays)
    fed = (image_size, image_size, 3 if scaling else table.channels)
    value = graph.prepared("images", scaling, table.channels)
    for name, steps in table.layers:
        value = graph.steps(steps, value, name)
        if name in end_points:
            graph.add("Transpose", [value], name, perm=[0, 2, 3, 1])
        if name == table.logits_row:
            break
    output = "logits"
    graph.add("Identity", [value], output)
    if scaling:
        graph.add("Softmax", [output], "probabilities", axis=1)
        output = "probabilities"
    kinds = onnx.TensorProto
    inputs = onnx.helper.make_tensor_value_info(
        "images", kinds.UINT8 if scaling else kinds.FLOAT, ["batch", *fed]
    )
    outputs = onnx.helper.make_tensor_value_info(
        output, kinds.FLOAT, ["batch", graph.row.output.shape[-1]]
    )
    more = [
        onnx.helper.make_tensor_value_info(
            name, kinds.FLOAT, ["batch", *measured.end_points[name].shape]
        )
        for name in end_points
    ]
    made = onnx.helper.make_graph(
        graph.nodes, table.name, [inputs], [outputs, *more], graph.weights
    )
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="inception_jax"
    )
    model.ir_version = 8  # what readers of opset 17 know
    onnx.helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Graph:
    """A graph under construction; each method returns the name of its result.

    Shapes are those of the measurement's rows.
    """

    def __init__(self, onnx: Any, measured: Measurement, arrays: Mapping[str, np.ndarray]):
        self._onnx, self._unit, self._arrays = onnx, measured.architecture.unit, arrays
        self._rows = {row.path: row for row in measured.rows}
        self.row: Row = measured.rows[0]
        """That of the word that was added last."""
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
        """Adds the transposition to channels first, and the scaling of pixels.

        A network of one channel gets the first.
        """
        if scaling:
            mean, deviation = np.array(SCALINGS[scaling])[:, None, None, :channels]
            images = self.add("Cast", [images], to=1)
            if channels < 3:
                ends = [
                    self.weight(f"first_{name}", np.array([value], np.int64))
                    for name, value in (("from", 0), ("to", channels))
                ]
                images = self.add(
                    "Slice", [images, *ends, self.weight("first_axis", np.array([3], np.int64))]
                )
            images = self.add(
                "Div", [images, self.weight("deviation", np.float32(255 * deviation))]
            )
            images = self.add("Sub", [images, self.weight("mean", np.float32(mean / deviation))])
        return self.add("Transpose", [images], perm=[0, 3, 1, 2])

    def steps(self, steps: Steps, value: str, path: str) -> str:
        for name, word in name_words(steps):
            value = self.word(
                word, value, path if isinstance(word, Concat | Residual) else f"{path}/{name}"
            )
        return value

    def word(self, word: Word, value: str, path: str) -> str:
        self.row = self._rows.get(path, self.row)
        match word:
            case Conv():
                return self.conv(word, value, path)
            case Linear():
                return self.linear(word, value, path)
            case Pool():
                return self.pool(word, value, path)
            case v.NormAct():
                return self.apply_activation(self.norm(value, path), word.activation)
            case Concat():
                return self.add(
                    "Concat",
                    [
                        self.steps(branch, value, f"{path}/branch_{i}")
                        for i, branch in enumerate(word.branches)
                    ],
                    axis=1,
                )
            case Residual():
                return self.residual(word, value, path)
            case v.LocalResponse():
                return self.add(
                    "LRN", [value], size=word.size, alpha=word.alpha, beta=word.beta, bias=word.k
                )
            case v.Dropout():
                return value
        raise ConfigError(f"{path}: {v.get_kind(word)} has no ONNX here")

    def conv(self, word: Conv, value: str, path: str, scale: float = 1.0) -> str:
        row = self.row = self._rows[path]
        window: dict[str, Any] = {
            "kernel_shape": list(row.kernel or ()),
            "strides": list(word.stride),
            "pads": list(row.padding),
        }
        if word.depth_multiplier:
            depthwise = self._arrays[f"params/{path}/depthwise_kernel"].transpose(3, 2, 0, 1)
            value = self.add(
                "Conv",
                [value, self.weight(f"{path}/depthwise_kernel", depthwise)],
                group=row.input[-1],
                **window,
            )
            window = {"kernel_shape": [1, 1]}
        weights = self._arrays[f"params/{path}/kernel"].transpose(3, 2, 0, 1) * np.float32(scale)
        inputs = [value, self.weight(f"{path}/kernel", weights)]
        if f"params/{path}/bias" in self._arrays:
            inputs.append(
                self.weight(f"{path}/bias", self._arrays[f"params/{path}/bias"] * np.float32(scale))
            )
        return self.apply_activation(self.add("Conv", inputs, **window), word.activation)

    def linear(self, word: Linear, value: str, path: str) -> str:
        if len(self.row.input) == 3:  # ours are flattened with their channels last
            value = self.add("Transpose", [value], perm=[0, 2, 3, 1])
        inputs = [
            self.add("Flatten", [value]),
            self.weight(f"{path}/kernel", self._arrays[f"params/{path}/kernel"]),
        ]
        if f"params/{path}/bias" in self._arrays:
            inputs.append(self.weight(f"{path}/bias", self._arrays[f"params/{path}/bias"]))
        return self.apply_activation(self.add("Gemm", inputs), word.activation)

    def pool(self, word: Pool, value: str, path: str) -> str:
        if word.grid:
            raise ConfigError(f"{path}: an adaptive pool has no ONNX here")
        if word.kernel is None:
            return self.add(
                "Flatten",
                [self.add("GlobalAveragePool" if word.kind == "avg" else "GlobalMaxPool", [value])],
            )
        kernel, pads = self.row.kernel or (), self.row.padding
        window: dict[str, Any] = {
            "kernel_shape": list(kernel),
            "strides": list(word.stride),
            "pads": list(pads),
        }
        if word.kind == "avg":
            count = int(self._unit.count_include_pad and word.padding != "ceil")
            return self.add("AveragePool", [value], count_include_pad=count, **window)
        value = self.add("MaxPool", [value], **window)
        if word.pad_value is not None:
            # Not a Pad before it: onnxruntime 1.31 makes one of the two, and pads with minus
            # infinity instead.
            outside = [
                [
                    start < 0 or start + kernel[i] > size
                    for start in (np.arange(count) * word.stride[i] - pads[i]).tolist()
                ]
                for i, (size, count) in enumerate(
                    zip(self.row.input[:2], self.row.output.shape[:2], strict=True)
                )
            ]
            least = np.where(
                np.logical_or.outer(*outside), np.float32(word.pad_value), np.finfo(np.float32).min
            )
            value = self.add("Max", [value, self.weight(f"{path}/border", least[None, None])])
        return value

    def residual(self, word: Residual, value: str, path: str) -> str:
        inputs = (
            self.apply_activation(self.norm(value, f"{path}/norm"), None)
            if word.preactivation
            else value
        )
        name = self.steps(word.branch, inputs, path)
        if word.expansion_conv:
            name = self.conv(make_expansion_conv(0), name, f"{path}/up", word.scale)
        elif word.scale != 1:
            name = self.add("Mul", [name, self.weight(f"{path}/scale", np.float32(word.scale))])
        shortcut = value
        if word.shortcut == "pad":
            shortcut = self.add(
                "MaxPool", [shortcut], kernel_shape=[1, 1], strides=list(word.stride)
            )
            more = (
                self.row.output.shape[-1]
                - next(
                    row for place, row in self._rows.items() if place.startswith(f"{path}/")
                ).input[-1]
            )
            shortcut = self.add(
                "Pad",
                [
                    shortcut,
                    self.weight(f"{path}/pads", np.array([0, 0, 0, 0, 0, more, 0, 0], np.int64)),
                ],
            )
        elif word.shortcut is not None:
            shortcut = self.steps(word.shortcut, inputs, f"{path}/shortcut")
        total = self.add("Add", [shortcut, name])
        return self.apply_activation(
            self.norm(total, f"{path}/sum_norm") if word.norm else total, word.activation
        )

    def norm(self, name: str, path: str) -> str:
        beta, mean = self._arrays[f"params/{path}/bias"], self._arrays[f"batch_stats/{path}/mean"]
        gamma = self._arrays.get(f"params/{path}/scale", np.ones_like(beta))
        arrays = {
            "scale": gamma,
            "bias": beta,
            "mean": mean,
            "var": self._arrays[f"batch_stats/{path}/var"],
        }
        inputs = [name, *(self.weight(f"{path}/{array}", value) for array, value in arrays.items())]
        return self.add("BatchNormalization", inputs, epsilon=self._unit.norm_epsilon)

    def apply_activation(self, name: str, activation: v.Activation | None) -> str:
        kind = activation or self._unit.activation
        return (
            name
            if kind == "linear"
            else self.add({"relu": "Relu", "sigmoid": "Sigmoid"}[kind], [name])
        )
