"""Files of PyTorch of every kind, and what PyTorch reads from them.

    python -m tests.weights.pytorch_files

writes `tests/weights/pytorch/`, with PyTorch 2.13: a file for each kind, and the bytes of its
arrays in `expected.json`. The tests of the default tier read them without PyTorch.
"""

import argparse
import base64
import collections
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).with_name("pytorch")


def make_contents() -> dict[str, Any]:
    """Returns the contents of each file by its name."""
    import torch

    rng = torch.Generator().manual_seed(0)
    values, shared = torch.randn(4, 5, generator=rng), torch.randn(40, generator=rng)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    network(torch.randn(2, 3, 4, 4, generator=rng)).sum().backward()
    optimizer = torch.optim.AdamW(network.parameters())
    optimizer.step()
    state = network.state_dict()
    return {
        "float32": {"a": values, "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3)},
        "float16": {"a": values.half()},
        "bfloat16": {"a": values.bfloat16(), "b": values},
        "float64": {"a": values.double(), "complex": torch.complex(values, values)},
        "newer_types": {
            "a": values.to(torch.float8_e4m3fn), "b": values.to(torch.float8_e5m2),
            "c": torch.arange(5).to(torch.uint16),
        },
        "integers": {
            "a": torch.arange(9), "b": torch.arange(9, dtype=torch.uint8), "c": values > 0,
            "d": torch.arange(5, dtype=torch.int32), "e": torch.arange(5, dtype=torch.int16),
        },
        "shared_storage": {"a": shared[:20], "b": shared[10:30], "c": shared},
        "strides": {
            "transposed": values.t(), "part": values[1:4, ::2], "repeated": values[:1].expand(3, 5),
            "channels_last": torch.randn(2, 3, 4, 4, generator=rng).to(
                memory_format=torch.channels_last
            ),
        },
        "parameters": {"a": torch.nn.Parameter(values), "b": torch.nn.Parameter(values.half())},
        "state_dict": state,
        "checkpoint": {"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict()},
        "arguments": {"model": state, "args": argparse.Namespace(lr=0.1, names=["a"])},
        "pending": {
            "conj": torch.complex(values, values).conj(),
            "neg": torch.complex(values, values).conj().imag,
        },
        "containers": {"a": values, "set": {1, 2}, "complex": 1j, "bytes": bytearray(b"x")},
        "ordered": collections.OrderedDict([("z", values), ("a", values)]),
    }  # fmt: skip


def list_files(contents: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yields the name, the content and the options of `torch.save` of each file."""
    for name, content in contents.items():
        yield f"{name}.pth", content, {}
        if name != "newer_types":  # PyTorch cannot read these in its old format
            yield f"{name}_old.pth", content, {"_use_new_zipfile_serialization": False}
        yield f"{name}_protocol_4.pth", content, {"pickle_protocol": 4}


def flatten(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the path and the value of every tensor and number in mappings and lists."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from flatten(value, f"{path}/{name}")
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from flatten(value, f"{path}/{i}")
    elif hasattr(tree, "dtype") or isinstance(tree, int | float):
        yield path, tree


def describe(value: Any) -> Any:
    """Returns the dtype, shape and bytes of a tensor or array; a number as it is."""
    if not hasattr(value, "dtype"):
        return value
    if hasattr(value, "detach"):
        import torch

        kept = value.detach().resolve_conj().resolve_neg().contiguous()
        content = kept.reshape(-1).view(torch.uint8).numpy().tobytes() if kept.numel() else b""
        return [str(value.dtype).removeprefix("torch."), list(value.shape), _encode(content)]
    return [str(value.dtype), list(value.shape), _encode(np.ascontiguousarray(value).tobytes())]


def describe_all(tree: Any) -> dict[str, Any]:
    """Returns path -> `describe` of every tensor and number."""
    return {path: describe(value) for path, value in flatten(tree)}


def load_with_torch(file: Path) -> Any:
    """Returns what PyTorch reads from a file, as arrays alone but for arguments.

    Files of pickle protocol 4, which are of these tests, are read with code: PyTorch reads arrays
    alone from protocols 2 and 3.
    """
    import torch

    if "protocol_4" in file.name:
        return torch.load(file, weights_only=False)

    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(file, weights_only=True)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def main() -> None:
    import torch

    FOLDER.mkdir(exist_ok=True)
    expected = {}
    for name, content, options in list_files(make_contents()):
        if "protocol" in name:
            continue
        torch.save(content, FOLDER / name, **options)
        expected[name] = describe_all(load_with_torch(FOLDER / name))
    (FOLDER / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
