"""Files of other projects, read as arrays by name.

Nothing in them runs; pickles with code are refused.
"""

import glob
import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.monitoring.progress import log_line
from inception_jax.weights.convert import hdf5
from inception_jax.weights.convert.pytorch import LeftOutObject, read_pytorch
from inception_jax.weights.convert.selection import format_some, to_numpy_arrays
from inception_jax.weights.convert.size_limit import check_expansion
from inception_jax.weights.library import load_library

Arrays = dict[str, np.ndarray]
Tree = dict[str, Any]
"""Arrays by name, or mappings of such by theirs, as training loops save them."""

SHARD_SUFFIX = re.compile(r"\.(?:index|data-\d{5}-of-\d{5})$")
"""Suffixes of the files of a TensorFlow checkpoint, after its prefix."""
FORMAT_NAMES = (
    ".pth, .pt, .ckpt or .pth.tar of PyTorch, .safetensors, .keras or .h5, .caffemodel, or a "
    "TensorFlow checkpoint"
)


def read_arrays(file: Path) -> Tree:
    """Returns the arrays of `file`, whose format is identified by its contents.

    A checkpoint of PyTorch has them in mappings; see `selection`.

    Raises:
      DataError: There is no such file; or it is cut off, of another format, has code in it, or
        declares much more than its bytes can hold.
      ConfigError: The library that reads the format is not installed.
    """
    if file.is_dir():
        raise DataError(
            f"{file} is a folder: give a file of weights ({FORMAT_NAMES}), the model.safetensors "
            "in it "
            "perhaps"
        )
    prefix = Path(SHARD_SUFFIX.sub("", str(file)))
    is_tensorflow = prefix.with_name(prefix.name + ".index").is_file() and not (
        prefix == file and file.is_file()
    )
    if not file.is_file() and not is_tensorflow:
        raise DataError(f"{file} is no file: give one of weights ({FORMAT_NAMES}: its prefix)")
    kind = "a TensorFlow checkpoint"
    try:
        if is_tensorflow:
            return _tensorflow(prefix)
        kind, reader = _recognised(file)
        return reader(file)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # each library has errors of its own for what it cannot read
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{file} cannot be read as {kind} ({lines[0][:300]}): is it whole?"
        ) from error


def _recognised(file: Path) -> tuple[str, Any]:
    """Returns the name of the format of `file`, and the function that reads it.

    Raises:
      DataError: The format is unknown.
    """
    with file.open("rb") as opened:
        start = opened.read(1024)
        opened.seek(max(0, file.stat().st_size - 8))
        end = opened.read()
    if any(start[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in (0, 512)):
        return "an HDF5 file of Keras", hdf5.read_keras_h5
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        if "model.weights.h5" in names:
            return "a .keras file", hdf5.read_keras_archive
        if any(name.rpartition("/")[2] == "data.pkl" for name in names):
            return "a checkpoint of PyTorch", _pytorch
        raise DataError(
            f"{file} is an archive of {', '.join(names[:5]) or 'nothing'}: wanted are "
            f"{FORMAT_NAMES}"
        )
    if start[8:9] == b"{" and 1 < int.from_bytes(start[:8], "little") <= file.stat().st_size - 8:
        return "a .safetensors file", _safetensors
    if re.match(rb"\x80[\x02-\x05]", start):
        return "a checkpoint of PyTorch", _pytorch
    if (
        end == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
    ):  # the magic number of its tables, in which version 1 is one file
        return "a TensorFlow checkpoint", _tensorflow
    if file.suffix in READERS_BY_SUFFIX:
        return READERS_BY_SUFFIX[file.suffix]
    if _is_caffe(file):
        return "a .caffemodel", _caffe
    raise DataError(
        f"{file} is of no known format (it begins with {start[:8]!r}): wanted are {FORMAT_NAMES}"
    )


def hash_file(file: Path) -> str:
    """Returns the SHA-256 of `file`, or of a TensorFlow checkpoint's data file; empty for none."""
    if not file.is_file():
        file = file.with_name(file.name + ".data-00000-of-00001")
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _safetensors(file: Path) -> Tree:
    from safetensors import safe_open

    found = {}
    with safe_open(file, framework="flax") as opened:  # NumPy has no bfloat16
        for name in opened.keys():  # noqa: SIM118
            found[name] = np.asarray(opened.get_tensor(name))
    return found


def _pytorch(file: Path) -> Tree:
    tree, left_out = read_pytorch(file)
    if left_out:
        log_line(f"{file}: objects of {format_some(left_out, 5)} are left out")
    if not isinstance(tree, Mapping):
        kind = (
            f"a network itself ({type(tree).__name__})"
            if isinstance(tree, LeftOutObject)
            else f"a {type(tree).__name__}"
        )
        raise DataError(
            f"{file} holds {kind}; wanted is a state dict, arrays by name: "
            "torch.save(network.state_dict(), FILE)"
        )
    return to_numpy_arrays(tree)


def _tensorflow(prefix: Path) -> Tree:
    tensorflow = load_library("tensorflow", "tensorflow")
    opened = tensorflow.train.load_checkpoint(str(prefix))
    shapes, kinds = opened.get_variable_to_shape_map(), opened.get_variable_to_dtype_map()
    stored = sum(part.stat().st_size for part in prefix.parent.glob(f"{glob.escape(prefix.name)}*"))
    check_expansion(
        prefix,
        sum(int(np.prod(shape)) * kinds[name].size for name, shape in shapes.items()),
        stored,
    )
    return {name: opened.get_tensor(name) for name in shapes}


def _caffe(file: Path) -> Tree:
    """Blobs have no names in Caffe: they get those of `frameworks.CAFFE`."""
    net = _caffe_message().FromString(file.read_bytes())
    found = {}
    for layer in (*net.layer, *net.layers):
        blobs = [_blob(blob) for blob in layer.blobs]
        if not blobs:
            continue
        kind = layer.type if isinstance(layer.type, str) else ""
        if (
            kind == "BatchNorm"
        ):  # mean and variance are sums, and the third blob is what they are divided by
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
    """Returns the message class of caffe.NetParameter, with the fields of weights (caffe.proto)."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="inception_jax/caffe.proto", package="inception_jax.caffe", syntax="proto2"
    )
    kinds = {"string": 9, "float": 2, "double": 1, "int32": 5, "int64": 3}
    fields = {
        "BlobShape": {"dim": (1, "int64*")},
        "BlobProto": {
            "num": (1, "int32"),
            "channels": (2, "int32"),
            "height": (3, "int32"),
            "width": (4, "int32"),
            "data": (5, "float*"),
            "shape": (7, "BlobShape"),
            "double_data": (8, "double*"),
        },
        "V1LayerParameter": {
            "name": (4, "string"),
            "type": (5, "int32"),
            "blobs": (6, "BlobProto+"),
        },
        "LayerParameter": {
            "name": (1, "string"),
            "type": (2, "string"),
            "blobs": (7, "BlobProto+"),
        },
        "NetParameter": {
            "name": (1, "string"),
            "layers": (2, "V1LayerParameter+"),
            "layer": (100, "LayerParameter+"),
        },
    }
    for message, parts in fields.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in parts.items():
            bare = kind.rstrip("*+")
            part = described.field.add(
                name=name, number=number, label=3 if kind != bare else 1, type=kinds.get(bare, 11)
            )
            if bare not in kinds:
                part.type_name = f".inception_jax.caffe.{bare}"
            part.options.packed = kind.endswith("*")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("inception_jax.caffe.NetParameter")
    )


def _is_caffe(file: Path) -> bool:
    try:
        return bool(_caffe(file))
    except Exception:  # any bytes may be tried
        return False


READERS_BY_SUFFIX = {
    ".caffemodel": ("a .caffemodel", _caffe),
    ".safetensors": ("a .safetensors file", _safetensors),
}
"""Formats that a damaged file is still said to be of."""
