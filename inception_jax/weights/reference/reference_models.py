"""The networks of other projects, where they are installed, as references of a conversion."""

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.checkpointing.run_record import get_version
from inception_jax.config import ConfigError
from inception_jax.spec.measure import measure
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.reference.samples import NamedTensors


def make_reference(
    source: str, model: str, *, classes: int, aux: bool, image_size: int
) -> "TorchReference | KerasReference":
    """Returns the network of `source` that is `model` here.

    Raises:
      ConfigError: Its package is not installed, or it has none that runs here.
    """
    if not classes:
        raise ConfigError(f"without its classifier {source}'s own network is not built")
    try:
        if source == "keras":
            return KerasReference(model, classes, image_size)
        if source in TORCH_NETWORKS:
            return TorchReference(source, model, classes, aux)
    except ImportError as error:
        raise ConfigError(
            f"{source}'s own network cannot be run here ({error}): pip install "
            "'inception-jax[parity]'"
        ) from error
    except (
        KeyError,
        ValueError,
        RuntimeError,
    ) as error:  # a network that a user's package has registered under this project
        raise ConfigError(
            f"{source} itself has no {model} that can be built ({error!r:.100})"
        ) from error
    raise ConfigError(
        f"{source} has no network that runs beside JAX; it is compared with recordings "
        "(tests/weights)"
    )


def list_end_points(source_spec: SourceSpec) -> list[str]:
    """Returns the end points that modules of the reference give.

    They are the rows with parameters, without the classifier.
    """
    table = source_spec.architecture
    rows = dict.fromkeys(row.path.split("/")[0] for row in measure(table).rows if row.parameters)
    stem = (
        "conv1" if "resnet" in table.name and "inception" not in table.name else ""
    )  # its norm is a module of its own there
    return [name for name in rows if name not in (table.logits_row, "postnorm", "Bottleneck", stem)]


def collect_reference_versions(*packages: str) -> dict[str, str]:
    """Returns the versions of installed packages, as text."""
    return {name: found for name in packages if (found := get_version(name))}


# PyTorch.


_LIBRARIES: list[Any] = []
"""Libraries of operators, whose definitions end with them."""


def import_torchvision() -> Any:
    """Imports torchvision's Python sources with any build of PyTorch.

    Compiled operators that are missing are declared, and never called.
    """
    import torch

    with contextlib.suppress(RuntimeError):  # there is no operator torchvision::nms
        return importlib.import_module("torchvision")
    library = torch.library.Library("torchvision", "FRAGMENT")
    _LIBRARIES.append(library)
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # it is there already
            library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    return importlib.import_module("torchvision")


def _torchvision(model: str, classes: int, aux: bool) -> Any:
    options = {} if "resnet" in model else {"aux_logits": aux, "init_weights": False}
    return import_torchvision().models.get_model(
        model, weights=None, num_classes=classes, **options
    )


def _timm(model: str, classes: int, aux: bool) -> Any:
    import_torchvision()
    options = {"aux_logits": aux} if model == "inception_v3" else {}
    name = model.replace("preact_resnet", "resnetv2_")
    return importlib.import_module("timm").create_model(
        name, pretrained=False, num_classes=classes, **options
    )


def _cadene(model: str, classes: int, aux: bool) -> Any:
    """Returns Cadene's network from one file of its package.

    The whole package does not import with current versions of torchvision.
    """
    package = importlib.util.find_spec("pretrainedmodels")
    if package is None or not package.submodule_search_locations:
        raise ImportError("no package pretrainedmodels")
    name = model.replace("_", "")
    found = importlib.util.spec_from_file_location(
        f"cadene_{name}", Path(package.submodule_search_locations[0]) / "models" / f"{name}.py"
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    makers = {
        "bninception": "BNInception",
        "inceptionv4": "InceptionV4",
        "inceptionresnetv2": "InceptionResNetV2",
    }
    network = getattr(module, makers[name])(classes)
    if (
        name == "bninception"
    ):  # its last pool is 7x7, whatever the map: at its native size this is the same
        network.global_pool = importlib.import_module("torch").nn.AdaptiveAvgPool2d(1)
    return network


def _fid(model: str, classes: int, aux: bool) -> Any:
    models = import_torchvision().models
    theirs = importlib.import_module("pytorch_fid.inception")
    network = models.inception_v3(
        weights=None, num_classes=classes, aux_logits=False, init_weights=False
    )
    for letter, (inputs, width) in zip("bcd", ((192, 32), (256, 64), (288, 64)), strict=True):
        setattr(network, f"Mixed_5{letter}", theirs.FIDInceptionA(inputs, width))
    for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
        setattr(network, f"Mixed_6{letter}", theirs.FIDInceptionC(768, width))
    network.Mixed_7b, network.Mixed_7c = theirs.FIDInceptionE_1(1280), theirs.FIDInceptionE_2(2048)
    return network


def _facenet(model: str, classes: int, aux: bool) -> Any:
    import_torchvision()
    theirs = importlib.import_module("facenet_pytorch.models.inception_resnet_v1")
    return theirs.InceptionResnetV1(pretrained=None, classify=True, num_classes=classes)


TORCH_NETWORKS = {
    "torchvision": _torchvision,
    "timm": _timm,
    "cadene": _cadene,
    "fid": _fid,
    "facenet": _facenet,
}
REFERENCE_PACKAGES = {
    "cadene": "pretrainedmodels",
    "fid": "pytorch-fid",
    "facenet": "facenet-pytorch",
}


class TorchReference:
    """A network of PyTorch as a reference."""

    def __init__(self, source: str, model: str, classes: int, aux: bool):
        self._origin = SOURCES[source][model]
        self._module = TORCH_NETWORKS[source](model, classes, aux).eval()
        state = self._module.state_dict()
        self.shapes = {
            name: tuple(value.shape)
            for name, value in state.items()
            if not re.fullmatch(self._origin.framework.ignored, name)
        }
        self.versions = collect_reference_versions("torch", REFERENCE_PACKAGES.get(source, source))
        self._heads = self._origin.architecture.aux if aux else ()

    def run(self, arrays: Mapping[str, np.ndarray], batch: np.ndarray, dtype: str) -> NamedTensors:
        """Returns the activations of `batch`, with `arrays` as its state dict, in `dtype`."""
        import torch

        kind, origin = getattr(torch, dtype), self._origin
        module = self._module.to(kind)
        for name, value in module.state_dict().items():
            if name in self.shapes:
                value.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))
        if (origin.model, origin.variant) == ("bn_inception", "cadene"):
            places = self._joined()
        else:
            places = {name: [origin.names.place(name)] for name in list_end_points(origin)}
        seen: dict[str, Any] = {}
        hooks = [
            module.get_submodule(place).register_forward_hook(
                lambda _, __, y, place=place: seen.__setitem__(place, y.detach().clone())
            )
            for place in dict.fromkeys(place for there in places.values() for place in there)
        ]
        with torch.no_grad():
            values = torch.from_numpy(batch[..., ::-1].copy() if origin.blue_first else batch).to(
                kind
            )
            logits = module(values.permute(0, 3, 1, 2).contiguous())
            found = {"logits": (logits[0] if isinstance(logits, tuple) else logits).numpy()}
            for name, there in places.items():
                found[name] = (
                    torch.cat([seen[place] for place in there], 1).permute(0, 2, 3, 1).numpy()
                )
            for i, head in enumerate(self._heads):
                found[f"aux {i}"] = module.get_submodule(origin.names.place(head.name))(
                    seen[places[head.at][0]]
                ).numpy()
        for hook in hooks:
            hook.remove()
        return found

    def _joined(self) -> dict[str, list[str]]:
        """Returns the outputs of the paper's modules.

        Cadene's BN-Inception has only modules for their parts.
        """
        reductions, branches = (
            ("relu_3x3", "relu_double_3x3_2", "pool"),
            ("relu_1x1", "relu_3x3", "relu_double_3x3_2", "relu_pool_proj"),
        )
        return {
            name: [
                f"{self._origin.names.place(name)}_{part}"
                for part in (reductions if name in ("Mixed_4a", "Mixed_5a") else branches)
            ]
            for name in list_end_points(self._origin)
            if name.startswith("Mixed")
        }


# Keras, on JAX.

KERAS_NETWORKS = {
    "inception_v3": "InceptionV3",
    "inception_resnet_v2": "InceptionResNetV2",
    **{f"resnet{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
    **{f"preact_resnet{depth}": f"ResNet{depth}V2" for depth in (50, 101, 152)},
}
MIXED = [
    f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
]


class KerasReference:
    """A network of Keras as a reference.

    Keras 3.15 computes batch normalisation in float32 for every dtype: `result_type("float64",
    "float32")` is float32.
    """

    def __init__(self, model: str, classes: int, image_size: int):
        import keras

        if keras.backend.backend() != "jax":
            raise ImportError(
                f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax in the environment"
            )
        keras.utils.clear_session(free_memory=False)  # numbers the layers from the first again
        self._origin = SOURCES["keras"][model]
        shape = (image_size, image_size, 3)
        self._network = getattr(keras.applications, KERAS_NETWORKS[model])(
            weights=None, classes=classes, classifier_activation=None, input_shape=shape
        )
        self._variables = {
            f"{layer.name}/{variable.name}": variable
            for layer in self._network.layers
            for variable in layer.weights
        }
        self.shapes = {name: tuple(variable.shape) for name, variable in self._variables.items()}
        self.versions = collect_reference_versions("keras", "jax")

    def run(self, arrays: Mapping[str, np.ndarray], batch: np.ndarray, dtype: str) -> NamedTensors:
        """Returns the activations of `batch` in Keras's global precision, for any `dtype`."""
        import keras

        for name, variable in self._variables.items():
            variable.assign(arrays[name])
        places = {
            name: layer for name in list_end_points(self._origin) if (layer := self._layer(name))
        }
        looking = keras.Model(
            self._network.inputs,
            [
                self._network.output,
                *(self._network.get_layer(layer).output for layer in places.values()),
            ],
        )
        found = looking.predict(batch[..., ::-1] if self._origin.blue_first else batch, verbose=0)
        return dict(zip(("logits", *places), map(np.asarray, found), strict=True))

    def _layer(self, end_point: str) -> str:
        """Returns the name of the layer of an end point; empty if it has none."""
        if self._origin.model == "inception_v3":
            return f"mixed{MIXED.index(end_point)}" if end_point in MIXED else ""
        if self._origin.model == "inception_resnet_v2":
            if end_point.startswith("block"):
                return f"{end_point}_ac"
            return (
                "conv_7b_ac"
                if end_point == "Conv2d_7b_1x1"
                else end_point.lower()
                if end_point.startswith("Mixed")
                else ""
            )
        return f"{self._origin.names.place(end_point)}_out" if end_point.startswith("block") else ""
