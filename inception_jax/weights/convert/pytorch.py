"""Checkpoints of PyTorch, read without PyTorch and without running anything in them.

`torch.save` writes a pickle and the bytes of each storage: since PyTorch 1.6 as members of an
uncompressed zip archive (https://pytorch.org/docs/stable/notes/serialization.html), before that one
after the other. The unpickler here admits tensors, storages, arrays of NumPy and ordered
dictionaries. Names from modules that run code are refused; any other object, such as the arguments
of a training script, is left out.
"""

import io
import mmap
import pickle
import re
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from inception_jax.data.source import DataError
from inception_jax.weights.convert.size_limit import check_expansion

CODE = re.compile(
    r"(?:builtins|__builtin__|os|posix|nt|sys|io|_io|subprocess|commands|popen2|runpy|importlib"
    r"|shutil|socket|pty|ctypes|codecs|operator|functools|types|code|pdb|timeit|webbrowser|pickle"
    r"|_pickle|torch|torchvision|numpy\.testing|multiprocessing|asyncio|inspect|tempfile)(?:\..*)?"
)
"""Modules whose names in a pickle are there to be run."""
HARMLESS = ("set", "frozenset", "bytearray", "complex", "slice", "range")
"""Built-in classes that are values, which lie beside arrays in some checkpoints."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file from before PyTorch 1.6 (torch/serialization.py, MAGIC_NUMBER)."""
LEGACY_PROTOCOL = 1001
TORCH_DTYPES: Mapping[str, Any] = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16, "complex64": np.complex64, "complex128": np.complex128,
    "bool": np.bool_, "int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
STORAGES: Mapping[str, str] = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "BoolStorage": "bool", "LongStorage": "int64",
    "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
}  # fmt: skip


class Checkpoint(NamedTuple):
    """The contents of a checkpoint.

    Attributes:
      tree: The saved object, with NumPy arrays for tensors.
      left_out: Names of the classes whose objects were left out.
    """

    tree: Any
    left_out: tuple[str, ...]


def read_pytorch(file: Path) -> Checkpoint:
    """Returns the contents of a checkpoint of PyTorch.

    Arrays of an uncompressed archive are views of the memory-mapped file.

    Raises:
      DataError: The file names code, holds a kind of tensor that is not read here, declares more
        bytes than it has, or is damaged.
    """
    left_out, refused = set[str](), set[str]()
    read, cause = (_read_archive if _is_archive(file) else _read_legacy), None
    try:
        declared, tree = read(file, left_out, refused)
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises errors of every kind
        cause = error
    if refused:
        raise DataError(
            f"{file} is a pickle of more than arrays, which could run code, and is refused: it "
            f"names {', '.join(sorted(refused)[:10])}; save its state_dict: "
            "torch.save(network.state_dict(), FILE)"
        ) from cause
    if cause:
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]
        raise DataError(
            f"{file} cannot be read as a checkpoint of PyTorch ({reason}): download or save it "
            "again"
        ) from cause
    check_expansion(file, declared, file.stat().st_size)
    return Checkpoint(tree, tuple(sorted(left_out)))


def _is_archive(file: Path) -> bool:
    """Returns whether a file begins as an archive does; zipfile.is_zipfile raises for some."""
    with file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


class _Constant:
    """A value or a function that a pickle may name, and cannot change."""

    __slots__ = ("call", "name")
    call: Callable[..., Any] | None
    name: str

    def __init__(self, name: str, call: Callable[..., Any] | None = None):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "call", call)

    def __call__(self, *arguments: Any) -> Any:
        if self.call is None:
            raise pickle.UnpicklingError(f"{self.name} is called, and is no function")
        return self.call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"{self.name} is changed by the pickle")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"{self.name} is changed by the pickle")


class LeftOutObject:
    """An object of a class that is not read here. It takes every state."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> "LeftOutObject":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def _ignore(self, *arguments: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = update = _ignore


class _Dtype:
    """The dtype of a pickled array, of whose state the byte order alone is taken.

    NumPy's own takes flags too, by which numbers would pass for pointers to objects.
    """

    def __init__(self, name: Any, *options: Any):
        if not isinstance(name, str) or not re.fullmatch(r"[<>=|]?[biufc]\d{1,2}|[?bB]", name):
            raise pickle.UnpicklingError(f"an array of {str(name)[:20]!r}, and wanted are numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array(np.ndarray):
    """An array of NumPy while its pickled state is read."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise pickle.UnpicklingError("an array of no numbers")
        version, shape, dtype, is_column_major, content = state
        super().__setstate__((version, shape, dtype.dtype, is_column_major, bytes(content)))


def _from_buffer(content: bytes, dtype: Any, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Returns an array of protocol 5."""
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array of no numbers")
    return np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Returns the bytes that protocol 2 has as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding[:20]!r}")
    return text.encode("latin1")


NUMPY_ARRAYS: dict[tuple[str, str], Any] = {
    (module, "_reconstruct"): _Constant(
        "_reconstruct", lambda *_: np.empty(0, np.int8).view(_Array)
    )
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
} | {
    ("numpy._core.numeric", "_frombuffer"): _Constant("_frombuffer", _from_buffer),
    ("numpy.core.numeric", "_frombuffer"): _Constant("_frombuffer", _from_buffer),
    ("numpy", "ndarray"): _Constant("ndarray"),
    ("numpy", "dtype"): _Constant("dtype", _Dtype),
    ("_codecs", "encode"): _Constant("encode", _encode),
}
"""(module, name) in a pickled array of NumPy -> what it may do here."""


def read_pickled_arrays(file: Path) -> Any:
    """Returns the arrays of a pickle, in dictionaries, lists and numbers, without running code.

    Raises:
      DataError: The pickle names anything else, or is damaged.
    """
    left_out, refused = set[str](), set[str]()

    def refuse(pid: Any) -> Any:
        raise pickle.UnpicklingError("a storage of PyTorch")

    cause, tree = None, None
    try:
        with file.open("rb") as opened:
            tree = _Unpickler(opened, refuse, left_out, refused).load()
    except Exception as error:  # a damaged pickle raises errors of every kind
        cause = error
    if named := sorted(refused | left_out):
        raise DataError(
            f"{file} is a pickle of more than arrays, which could run code, and is refused: it "
            f"names {', '.join(named[:10])}"
        ) from cause
    if cause:
        raise DataError(f"{file} cannot be read as a pickle ({cause!r:.200})") from cause
    return tree


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors from a pickle, and admits nothing else by name.

    Args:
      left_out: Gets the names of classes whose objects are left out.
      refused: Gets the names that would run code.

    Attributes:
      declared: Bytes of all tensors, with at least four for each value.
      has_copies: Whether some arrays are not views of their storages.
    """

    def __init__(
        self,
        pickled: Any,
        load_storage: Callable[[tuple[Any, ...]], Any],
        left_out: set[str],
        refused: set[str],
    ):
        super().__init__(pickled, encoding="utf-8")
        self._load_storage, self._left_out, self._refused = load_storage, left_out, refused
        self.declared, self.has_copies = 0, False

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or not pid or pid[0] not in ("storage", b"storage"):
            raise pickle.UnpicklingError(f"a persistent id {str(pid)[:60]!r} that is no storage")
        return self._load_storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _Constant(name, self._rebuild)
        if (module, name) == ("torch._utils", "_rebuild_tensor_v3"):
            return _Constant(name, self._rebuild_with_dtype)
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return _Constant(name, lambda data, *rest: data)
        if (module, name) == ("torch", "Size"):
            return _Constant(name, tuple)
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
            return _Constant(STORAGES[name])
        if module == "torch" and name in TORCH_DTYPES:
            return _Constant(name)
        if (module, name) == ("torch", "device"):
            return LeftOutObject
        if (module, name) in NUMPY_ARRAYS:
            return NUMPY_ARRAYS[module, name]
        qualified = f"{module}.{name}"
        if module in ("builtins", "__builtin__") and name in HARMLESS:
            self._left_out.add(qualified)
            return type(name, (LeftOutObject,), {})
        (self._refused if CODE.fullmatch(module) else self._left_out).add(qualified)
        return type(name, (LeftOutObject,), {})

    def _rebuild(
        self, storage: np.ndarray, offset: int, shape: Any, stride: Any, *rest: Any
    ) -> Any:
        shape, stride = tuple(shape), tuple(stride)
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if min((offset, *shape, *stride), default=0) < 0:
            raise ValueError(f"a tensor of shape {shape} with strides {stride} at {offset}")
        count = int(np.prod(shape, dtype=object))
        if count and last >= len(storage):
            raise ValueError(f"a tensor ends at value {last} of a storage of {len(storage)}")
        self.declared += count * max(storage.itemsize, 4)
        steps = [step * storage.itemsize for step in stride]
        values = storage.view(np.uint8)  # bfloat16 and float8 are no buffers
        array = np.ndarray(shape, storage.dtype, values, offset * storage.itemsize, steps)
        # The last argument, which few tensors have, says what is yet to be done to the values.
        pending = rest[-1] if rest and type(rest[-1]) is dict else {}
        if unknown := [name for name in pending if pending[name] and name not in ("conj", "neg")]:
            raise ValueError(f"a tensor with the property {unknown[0]}")
        self.has_copies = self.has_copies or any(pending.values())
        array = np.conj(array) if pending.get("conj") else array
        return np.negative(array) if pending.get("neg") else array

    def _rebuild_with_dtype(
        self, storage: np.ndarray, offset: int, shape: Any, stride: Any, _grad: Any, _hooks: Any,
        dtype: _Constant, *rest: Any,
    ) -> Any:  # fmt: skip
        return self._rebuild(storage.view(TORCH_DTYPES[dtype.name]), offset, shape, stride)


def _read_archive(file: Path, left_out: set[str], refused: set[str]) -> tuple[int, Any]:
    """Returns the declared bytes and the saved object of an archive."""
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        check_expansion(
            file, sum(member.file_size for member in members.values()), file.stat().st_size
        )
        (pickled,) = (name for name in members if name.rpartition("/")[2] == "data.pkl")
        folder = pickled.removesuffix("data.pkl")
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        order = members.get(f"{folder}byteorder")
        is_big_endian = order is not None and bytes(_get_member(archive, order, mapped)) == b"big"
        loaded: dict[str, np.ndarray] = {}

        def load(pid: tuple[Any, ...]) -> np.ndarray:
            _, kind, key, _, count = pid
            if key not in loaded:
                content = _get_member(archive, members[f"{folder}data/{key}"], mapped)
                loaded[key] = _view(content, kind.name, count, is_big_endian)
            return loaded[key]

        unpickler = _Unpickler(
            io.BytesIO(_get_member(archive, members[pickled], mapped)), load, left_out, refused
        )
        tree = unpickler.load()
        return unpickler.declared, tree


def _get_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, mapped: mmap.mmap) -> Any:
    """Returns the bytes of a member, mapped where it is stored without compression."""
    if member.compress_type != zipfile.ZIP_STORED:
        return archive.read(member)
    header = mapped[member.header_offset : member.header_offset + 30]
    if header[:4] != b"PK\x03\x04":
        raise ValueError(f"{member.filename} has no header")
    # A local header of 30 bytes, the name and the extra field, whose lengths end the header.
    begin = member.header_offset + 30 + int.from_bytes(header[26:28], "little")
    begin += int.from_bytes(header[28:30], "little")
    content = memoryview(mapped)[begin : begin + member.file_size]
    if len(content) != member.file_size:
        raise ValueError(f"{member.filename} is cut off")
    # A checksum of 0 is of a file that was written with set_crc32_options(False).
    if member.CRC and zlib.crc32(content) != member.CRC:
        raise ValueError(f"{member.filename} is damaged: its checksum differs")
    return content


def _read_legacy(file: Path, left_out: set[str], refused: set[str]) -> tuple[int, Any]:
    """Returns the declared bytes and the saved object of a file from before PyTorch 1.6."""
    content = file.read_bytes()
    stream = io.BytesIO(content)

    def refuse(pid: tuple[Any, ...]) -> Any:
        raise pickle.UnpicklingError("a storage before the network")

    if _Unpickler(stream, refuse, left_out, refused).load() != LEGACY_MAGIC:
        raise ValueError("it begins with another number than torch.save writes")
    if (protocol := _Unpickler(stream, refuse, left_out, refused).load()) != LEGACY_PROTOCOL:
        raise ValueError(f"protocol {protocol}, not {LEGACY_PROTOCOL}")
    system = _Unpickler(stream, refuse, left_out, refused).load()
    storages: dict[str, np.ndarray] = {}

    def load(pid: tuple[Any, ...]) -> np.ndarray:
        _, kind, key, _, count, view = (*pid, None)[:6]
        dtype = np.dtype(TORCH_DTYPES[kind.name])
        if key not in storages:
            if not 0 <= count * dtype.itemsize <= len(content):
                raise ValueError(f"a storage of {count} values in a file of {len(content)} bytes")
            storages[key] = np.zeros(count, dtype)
        if view is None:
            return storages[key]
        _, offset, size = view
        return storages[key][offset : offset + size]

    begin = stream.tell()
    unpickler = _Unpickler(stream, load, left_out, refused)
    tree = unpickler.load()
    for key in _Unpickler(stream, refuse, left_out, refused).load():
        count = int.from_bytes(stream.read(8), "little", signed=True)
        storage = storages[key]
        if count != len(storage):
            raise ValueError(
                f"storage {key} has {count} values, and was declared with {len(storage)}"
            )
        read = stream.read(storage.nbytes)
        if len(read) != storage.nbytes:
            raise ValueError(f"storage {key} is cut off")
        values = np.frombuffer(read, storage.dtype)
        storage[:] = values if system.get("little_endian", True) else values.byteswap()
    if unpickler.has_copies:  # of storages that were empty then
        stream.seek(begin)
        tree = _Unpickler(stream, load, left_out, refused).load()
    return unpickler.declared, tree


def _view(content: Any, kind: str, count: int, is_big_endian: bool) -> np.ndarray:
    dtype = np.dtype(TORCH_DTYPES[kind])
    if not 0 <= count * dtype.itemsize <= len(content):
        raise ValueError(f"a storage of {count} values of {dtype} in {len(content)} bytes")
    values = np.frombuffer(content, dtype, count)
    return values.byteswap() if is_big_endian != (sys.byteorder == "big") else values
