"""Keras's HDF5 files, read without following anything out of the file or beyond its size."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.data.source import DataError
from inception_jax.weights.convert.size_limit import check_expansion
from inception_jax.weights.library import load_library

Arrays = dict[str, np.ndarray]


def read_keras_h5(file: Path) -> Arrays:
    """Returns `layer/array` -> array of an .h5 file of Keras 2 or 3, with nested networks.

    Raises:
      DataError: The file refers to other files, or declares more than it holds.
      ConfigError: h5py is not installed.
    """
    return _read(file, file, file.stat().st_size)


def read_keras_archive(file: Path) -> Arrays:
    """Returns `layer/array` -> array of a .keras file, an archive with an .h5 file.

    Raises:
      DataError, ConfigError: See `read_keras_h5`.
    """
    with zipfile.ZipFile(file) as archive:
        part = archive.getinfo("model.weights.h5")
        check_expansion(file, part.file_size, part.compress_size)
        inner = archive.read(
            part
            # Once: HDF5 goes back and forth in it, and what is compressed would be expanded each
            # time
        )
    return _read(file, io.BytesIO(inner), len(inner))


def _read(file: Path, data: Any, size: int) -> Arrays:
    h5py = load_library("h5py", "keras")
    with h5py.File(data, "r") as opened:
        check_contents(h5py, file, opened, size)
        root = opened.get("model_weights", opened)
        return _numbered(
            dict(_of_keras_2(root) if "layer_names" in root.attrs else _of_keras_3(root))
        )


def check_contents(h5py: Any, file: Path, opened: Any, size: int) -> None:
    """Raises an error for links and arrays outside the file, and for arrays larger than it.

    It is called before anything is read.

    Raises:
      DataError: There is one.
    """
    if linked := opened.visititems_links(
        lambda name, link: None if isinstance(link, h5py.HardLink) else name
    ):
        raise DataError(
            f"{file}: /{linked} is a link, which could lead to other files, and is refused: save "
            "the weights again"
        )
    arrays: list[Any] = []
    opened.visititems(
        lambda _, part: arrays.append(part) if isinstance(part, h5py.Dataset) else None
    )
    for part in arrays:
        if part.is_virtual or part.external:
            raise DataError(
                f"{file}: {part.name} has its values in other files, and is refused: save the "
                "weights again"
            )
    check_expansion(file, sum(part.nbytes for part in arrays), size)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _of_keras_2(root: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yields `conv2d_1/kernel:0` and array from groups for each layer.

    A nested network is one layer with the arrays of all its layers.
    """
    for layer in map(_text, root.attrs["layer_names"]):
        names = [_text(name) for name in root[layer].attrs["weight_names"]]
        owners = [name.split("/")[-2] if "/" in name else layer for name in names]
        is_nested = len(set(owners)) > 1
        for name, owner in zip(names, owners, strict=True):
            yield (
                f"{owner if is_nested else layer}/{name.rsplit('/', 1)[-1].partition(':')[0]}",
                root[layer][name][()],
            )


def _of_keras_3(root: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yields arrays by number from groups for each layer.

    The name of the layer is an attribute; its arrays have no names.
    """
    layers = root.get("layers", root.get("_layer_checkpoint_dependencies"))
    if layers is None:
        raise DataError(
            f"{root.name} has no layers in it (but {', '.join(list(root)[:5]) or 'nothing'}): is "
            "it "
            "a file of Keras's weights?"
        )
    for group in layers.values():
        if "layers" in group or "_layer_checkpoint_dependencies" in group:
            yield from _of_keras_3(group)
        held = group.get("vars")
        if held is None or not len(held):
            continue
        values = [held[key][()] for key in sorted(held, key=int)]
        name = held.attrs.get("name", group.attrs.get("name"))
        if name is None:
            raise DataError(
                f"{group.name} has no name of its layer: it was written by an older Keras; load it "
                "there and save it again"
            )
        kernel = values[0].ndim > 1
        arrays = (
            ("kernel", "bias")
            if kernel
            else ("gamma", "beta", "moving_mean", "moving_variance")[-len(values) :]
        )
        for array, value in zip(arrays, values, strict=False):
            yield f"{_text(name)}/{array}", value


def _numbered(arrays: Arrays) -> Arrays:
    """Returns `arrays` with the layers of each kind numbered from the first again.

    Keras numbers the layers of all models of a process.
    """
    kinds: dict[str, set[int]] = {}
    unnamed = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?/(.*)")
    for name in arrays:
        if match := unnamed.fullmatch(name):
            kinds.setdefault(match[1], set()).add(int(match[2] or 0))
    ranks = {
        kind: {number: rank for rank, number in enumerate(sorted(numbers))}
        for kind, numbers in kinds.items()
    }

    def renamed(match: re.Match[str]) -> str:
        rank = ranks[match[1]][int(match[2] or 0)]
        return f"{match[1]}{f'_{rank}' if rank else ''}/{match[3]}"

    return {unnamed.sub(renamed, name): value for name, value in arrays.items()}
