"""Files of other projects as arrays by name. Nothing in them is ever run: a pickle with code in it is refused."""

import hashlib
import importlib
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError

Arrays = dict[str, np.ndarray]


def read(file: Path) -> Arrays:
    """Name -> array of all that is in `file`: .safetensors, .pth or .pt, .h5 or .keras, .caffemodel, or a TensorFlow checkpoint.

    Raises:
      DataError: no such file, or one that cannot be read whole, is of another format, or has code in it.
      ConfigError: the library that reads this format is not installed.
    """
    suffix = file.suffix.lower()
    reader = READERS.get(suffix, _tensorflow)
    if not file.is_file() and not (reader is _tensorflow and file.with_name(file.name + ".index").is_file()):
        raise DataError(f"{file} is no file: give one of weights ({', '.join(READERS)}), or the prefix of a TensorFlow checkpoint")
    try:
        return reader(file)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # each library has errors of its own for what it cannot read
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{file} cannot be read as {suffix or 'a TensorFlow checkpoint'} ({lines[0]}): is it whole, and of that format?"
        ) from error


def sha256(file: Path) -> str:
    """Of the bytes of `file`; of the data file of a TensorFlow checkpoint."""
    if not file.is_file():
        file = file.with_name(file.name + ".data-00000-of-00001")
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"this format is read by {name} ({error}): pip install 'inception-jax[{extra}]'") from error


def _safetensors(file: Path) -> Arrays:
    from safetensors import safe_open

    found = {}
    with safe_open(file, framework="flax") as opened:  # NumPy has no bfloat16
        for name in opened.keys():  # noqa: SIM118
            found[name] = np.asarray(opened.get_tensor(name))
    return found


def _pytorch(file: Path) -> Arrays:
    torch = _library("torch", "torch")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise DataError(f"{file} is a pickle of more than arrays, which could run code, and is refused: save its state_dict") from error
        raise
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise DataError(f"{file} holds a {type(found).__name__}; wanted is a state dict, arrays by name")
    tensors = {name.removeprefix("module."): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    half = (torch.bfloat16, torch.float16)
    return {name: (value.float() if value.dtype in half else value).detach().numpy() for name, value in tensors.items()}


def _keras(file: Path) -> Arrays:
    h5py = _library("h5py", "keras")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive, archive.open("model.weights.h5") as inner, h5py.File(inner) as opened:
            return _numbered(dict(_of_keras_3(opened)))
    with h5py.File(file) as opened:
        root = opened.get("model_weights", opened)
        return _numbered(dict(_of_keras_2(root) if "layer_names" in root.attrs else _of_keras_3(opened)))


def _of_keras_2(root: Any) -> Iterator[tuple[str, np.ndarray]]:
    """`conv2d_1/conv2d_1/kernel:0`, in a group for each layer."""
    for layer in root.attrs["layer_names"]:
        layer = layer.decode() if isinstance(layer, bytes) else layer
        for name in root[layer].attrs["weight_names"]:
            name = name.decode() if isinstance(name, bytes) else name
            yield f"{layer}/{name.rsplit('/', 1)[-1].partition(':')[0]}", root[layer][name][()]


def _of_keras_3(root: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays by number, in a group for each layer whose attribute is its name; there are no names for those of a layer."""
    for group in root["layers"].values() if "layers" in root else root["_layer_checkpoint_dependencies"].values():
        held = group.get("vars")
        if held is None or not len(held):
            continue
        values = [held[key][()] for key in sorted(held, key=int)]
        name = held.attrs.get("name", group.attrs.get("name"))
        if name is None:
            raise DataError(f"{group.name} has no name of its layer: it was written by an older Keras; load it there and save it again")
        kernel = values[0].ndim > 1
        arrays = ("kernel", "bias") if kernel else ("gamma", "beta", "moving_mean", "moving_variance")[-len(values) :]
        for array, value in zip(arrays, values, strict=False):
            yield f"{name}/{array}", value


def _numbered(arrays: Arrays) -> Arrays:
    """Keras numbers the layers of all models that a process makes: here each kind begins at its first again."""
    kinds: dict[str, set[int]] = {}
    unnamed = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?/(.*)")
    for name in arrays:
        if match := unnamed.fullmatch(name):
            kinds.setdefault(match[1], set()).add(int(match[2] or 0))
    ranks = {kind: {number: rank for rank, number in enumerate(sorted(numbers))} for kind, numbers in kinds.items()}

    def renamed(match: re.Match[str]) -> str:
        rank = ranks[match[1]][int(match[2] or 0)]
        return f"{match[1]}{f'_{rank}' if rank else ''}/{match[3]}"

    return {unnamed.sub(renamed, name): value for name, value in arrays.items()}


def _tensorflow(file: Path) -> Arrays:
    if file.is_file() and not file.with_name(file.name + ".index").is_file() and not re.search(r"ckpt", file.name):
        raise DataError(f"{file} is of no known format: wanted are {', '.join(READERS)}, or a TensorFlow checkpoint (model.ckpt)")
    tensorflow = _library("tensorflow", "tensorflow")
    opened = tensorflow.train.load_checkpoint(str(file).removesuffix(".index"))
    return {name: opened.get_tensor(name) for name in opened.get_variable_to_shape_map()}


def _caffe(file: Path) -> Arrays:
    """Blobs have no names in Caffe: they get those of `frameworks.CAFFE`."""
    net = _caffe_message().FromString(file.read_bytes())
    found = {}
    for layer in (*net.layer, *net.layers):
        blobs = [_blob(blob) for blob in layer.blobs]
        if not blobs:
            continue
        kind = layer.type if isinstance(layer.type, str) else ""
        if kind == "BatchNorm":  # mean and variance are sums, and the third blob is what they are divided by
            factor = float(blobs[2].reshape(-1)[0]) if len(blobs) > 2 else 1.0
            scale = np.float32(1 / factor if factor else 0)
            blobs, names = [blob.reshape(-1) * scale for blob in blobs[:2]], ("mean", "variance")
        elif kind == "Scale":
            names = ("gamma", "beta")
        else:
            names = ("weights", "biases")
            weights = blobs[0]
            if weights.ndim == 4 and weights.shape[:2] == (1, 1):  # an old file's matrix
                blobs[0] = weights.reshape(weights.shape[2:])
        for name, blob in zip(names, blobs, strict=False):
            found[f"{layer.name}/{name}"] = blob.reshape(-1) if name != "weights" else blob
    if not found:
        raise DataError(f"{file} has no layers with blobs: is it a .caffemodel, and whole?")
    return found


def _blob(blob: Any) -> np.ndarray:
    values = np.array(blob.data or blob.double_data, np.float32)
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    return values.reshape(shape)


def _caffe_message() -> Any:
    """caffe.NetParameter, as far as weights need it (caffe.proto)."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="inception_jax/caffe.proto", package="inception_jax.caffe", syntax="proto2")
    kinds = {"string": 9, "float": 2, "double": 1, "int32": 5, "int64": 3}
    fields = {
        "BlobShape": {"dim": (1, "int64*")},
        "BlobProto": {
            "num": (1, "int32"), "channels": (2, "int32"), "height": (3, "int32"), "width": (4, "int32"), "data": (5, "float*"),
            "shape": (7, "BlobShape"), "double_data": (8, "double*"),
        },
        "V1LayerParameter": {"name": (4, "string"), "type": (5, "int32"), "blobs": (6, "BlobProto+")},
        "LayerParameter": {"name": (1, "string"), "type": (2, "string"), "blobs": (7, "BlobProto+")},
        "NetParameter": {"name": (1, "string"), "layers": (2, "V1LayerParameter+"), "layer": (100, "LayerParameter+")},
    }  # fmt: skip
    for message, parts in fields.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in parts.items():
            bare = kind.rstrip("*+")
            part = described.field.add(name=name, number=number, label=3 if kind != bare else 1, type=kinds.get(bare, 11))
            if bare not in kinds:
                part.type_name = f".inception_jax.caffe.{bare}"
            part.options.packed = kind.endswith("*")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inception_jax.caffe.NetParameter"))


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".safetensors": _safetensors,
    ".pth": _pytorch,
    ".pt": _pytorch,
    ".bin": _pytorch,
    ".h5": _keras,
    ".hdf5": _keras,
    ".keras": _keras,
    ".caffemodel": _caffe,
}
