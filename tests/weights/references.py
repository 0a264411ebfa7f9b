"""Weights for the networks of other projects, drawn by their names; and TF-Slim's network, which
runs in an environment of its own.
"""

import hashlib
import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from inception_jax.weights.convert.source_spec import ArrayShape
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.reference.reference_models import (
    KerasReference,
    TorchReference,
    collect_reference_versions,
    list_end_points,
    make_reference,
)
from inception_jax.weights.reference.samples import NamedTensors

MODELS = {
    "torchvision": [
        "googlenet",
        "inception_v3",
        *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
        "wide_resnet50_2",
    ],
    "timm": [
        "inception_v3",
        "inception_v4",
        "inception_resnet_v2",
        "preact_resnet18",
        "preact_resnet50",
    ],
    "keras": [
        "inception_v3",
        "inception_resnet_v2",
        "resnet50",
        "resnet101",
        "resnet152",
        "preact_resnet50",
    ],
    "tf_slim": [
        "googlenet",
        "bn_inception",
        "inception_v3",
        "inception_v4",
        "inception_resnet_v2",
        "resnet50",
        "preact_resnet50",
    ],
    "cadene": ["bn_inception", "inception_v4", "inception_resnet_v2"],
    "fid": ["inception_v3"],
    "facenet": ["inception_resnet_v1"],
}
"""What is compared. The other depths differ from these in the number of units alone."""

CLASSES = {"tf_slim": 1001, "fid": 1008, "facenet": 8631}


def classes(source: str, model: str) -> int:
    """Returns the number of classes that `source` publishes."""
    if (source, model) in (("tf_slim", "resnet50"), ("cadene", "bn_inception")):
        return 1000
    return {**CLASSES, "cadene": 1001}.get(source, 1000)


def sizes(source: str, model: str) -> tuple[int, int]:
    """The native one and another, at which the last map is as large where a project's last pool
    has a fixed size.
    """
    native = SOURCES[source][model].data.image_size
    return native, {299: 315, 224: 200 if source == "tf_slim" else 256}.get(native, native + 32)


def heads(source: str, model: str) -> bool:
    """Whether there are auxiliary heads to compare."""
    return bool(SOURCES[source][model].architecture.aux)


def made(source: str, model: str, size: int) -> "TorchReference | KerasReference | SlimPeer":
    """A peer, ready for images of `size`."""
    aux = heads(source, model)
    if source == "tf_slim":
        return SlimPeer(model, aux)
    return make_reference(source, model, classes=classes(source, model), aux=aux, image_size=size)


def weights(source: str, shapes: Mapping[str, ArrayShape]) -> dict[str, np.ndarray]:
    """float64 arrays of a network, each drawn by its name."""
    outputs_first = SOURCES[source][MODELS[source][0]].framework.outputs_first
    return {name: drawn(name, shape, outputs_first) for name, shape in shapes.items()}


def drawn(name: str, shape: ArrayShape, outputs_first: bool) -> np.ndarray:
    """A stream of Philox for each name, so that the order in which they are asked for does not
    matter.

    Kernels keep the size of what runs through them; gammas and variances are in 0.5 to 1.5, betas,
    means and biases within 0.1.
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], np.uint64)
    rng = np.random.Generator(np.random.Philox(key=words))
    if len(shape) > 1:
        outputs = shape[0] if outputs_first else shape[-1]
        if "depthwise" in name:
            outputs = shape[2] * shape[3]
        return rng.uniform(-1, 1, shape) * np.sqrt(6 * outputs / np.prod(shape))
    if re.search(r"gamma$|var(iance)?$|(bn\d?|norm\d?|downsample\.1|_bn)\.weight$", name):
        return rng.uniform(0.5, 1.5, shape)
    return rng.uniform(-0.1, 0.1, shape)


class SlimPeer:
    """Needs tensorflow 2.15, tf_slim 1.1, and `nets` of tensorflow/models, research/slim, on the
    path.
    """

    def __init__(self, model: str, aux: bool):
        import tensorflow.compat.v1 as tf
        from keras.src.legacy_tf_layers import normalization

        # TensorFlow 2.15 looks for it where no release of tf_keras has it.
        names = ("tf_keras", "tf_keras.legacy_tf_layers", "tf_keras.legacy_tf_layers.normalization")
        sys.modules.update(dict.fromkeys(names, normalization))
        tf.disable_eager_execution()
        self._model, self._aux = model, aux
        with tf.Graph().as_default():
            native = SOURCES["tf_slim"][model].data.image_size
            self._network(tf.zeros((1, native, native, 3)))
            self.shapes = {
                variable.op.name: tuple(variable.shape.as_list())
                for variable in tf.global_variables()
            }
        self.versions = collect_reference_versions("tensorflow-cpu", "tf_slim")

    def run(self, arrays: Mapping[str, np.ndarray], batch: np.ndarray, dtype: str) -> NamedTensors:
        import tensorflow.compat.v1 as tf

        origin = SOURCES["tf_slim"][self._model]
        with tf.Graph().as_default(), tf.Session() as session:
            logits, points = self._network(tf.constant(batch, dtype))
            for variable in tf.global_variables():
                variable.load(arrays[variable.op.name], session)
            wanted = {"logits": tf.reshape(logits, (len(batch), -1))}
            if self._aux and "AuxLogits" in points:
                wanted["aux 0"] = tf.reshape(points["AuxLogits"], (len(batch), -1))
            for name in list_end_points(origin):
                known = next(
                    (known for known in (name, origin.names.place(name)) if known in points), None
                )
                if known:
                    wanted[name] = points[known]
            return session.run(wanted)

    def _network(self, images: Any) -> tuple[Any, Mapping[str, Any]]:
        """(logits, end points) of the graph, in evaluation, under the scope that it is published
        with.
        """
        import tf_slim as slim
        from tf_slim.nets import inception, resnet_v1, resnet_v2

        model, count = self._model, classes("tf_slim", self._model)
        if model.startswith(("resnet", "preact")):
            nets, number = (resnet_v2, "v2") if "preact" in model else (resnet_v1, "v1")
            with slim.arg_scope(nets.resnet_arg_scope()):
                return getattr(nets, f"resnet_{number}_{model.rpartition('resnet')[2]}")(
                    images, count, is_training=False
                )
        options = (
            {"create_aux_logits": self._aux}
            if self._aux or model in ("inception_v3", "inception_v4", "inception_resnet_v2")
            else {}
        )
        if model in ("inception_v4", "inception_resnet_v2"):
            name, nets = model, importlib.import_module(f"nets.{model}")
        else:
            name, nets = (
                {"googlenet": "inception_v1", "bn_inception": "inception_v2"}.get(model, model),
                inception,
            )
        with slim.arg_scope(getattr(nets, f"{name}_arg_scope")()):
            return getattr(nets, name)(images, count, is_training=False, **options)
