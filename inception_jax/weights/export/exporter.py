"""Writing of exports, which are read back and compared before they are kept."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save as to_bytes

from inception_jax.atomic_io import format_json, write_atomically
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.weights import files as file
from inception_jax.weights.convert.conversion import to_ours, to_theirs
from inception_jax.weights.convert.importer import get_source_spec
from inception_jax.weights.export import onnx
from inception_jax.weights.export.program import (
    Program,
    from_savedmodel,
    from_stablehlo,
    make_example_images,
    make_program,
    to_savedmodel,
    to_stablehlo,
)
from inception_jax.weights.library import load_library
from inception_jax.weights.reference.activations import compute_activations
from inception_jax.weights.reference.samples import make_test_images, sample_values
from inception_jax.weights.trained_network import TrainedNetwork

MAX_EXPORT_ERROR = 1e-5
"""Largest max|a - b| / max|b| of an export."""


class ExportFormat(NamedTuple):
    """Functions that write and open an export."""

    write: Callable[..., None]
    open: Callable[[Path], Program]


def export_and_verify(
    form: ExportFormat, opened: TrainedNetwork, path: Path, *, pixels: bool
) -> float:
    """Writes an export, and compares it with the network on random images of batch 1 and 7.

    Returns:
      The largest difference over the largest value.

    Raises:
      DataError: It exceeds `MAX_EXPORT_ERROR`.
      ConfigError: A library is missing, or the format lacks a word of the network.
    """
    form.write(opened, path, pixels=pixels)
    call = form.open(path)
    compute = jax.jit(make_program(opened.run, opened.variables, pixels=pixels, fold=False))
    worst = 0.0
    for batch in (1, 7):
        given = make_example_images(opened.run, batch, pixels=pixels)
        wanted = np.asarray(compute(given))
        worst = float(
            np.maximum(worst, np.abs(np.asarray(call(given)) - wanted).max() / np.abs(wanted).max())
        )  # NaN stays NaN
    if not worst <= MAX_EXPORT_ERROR:
        raise DataError(
            f"what was written differs by {worst:.1e} of the largest value, more than "
            f"{MAX_EXPORT_ERROR}: it was not kept"
        )
    return worst


def export_weights(opened: TrainedNetwork, path: Path) -> None:
    """Writes a weights file, with samples of activations for `verify`.

    Raises:
      ConfigError: The name is not that of a weights file, or a card cannot describe the norms.
    """
    run, variables, card, _ = opened
    if not file.is_weights(path):
        raise ConfigError(f"--output {path}: weights are kept in files called .safetensors")
    if run.config.norm.per_activation_in:
        raise ConfigError(
            "norm.per_activation_in: such norms hang on the image size, and have no place in a "
            "file "
            "of weights"
        )
    size = run.config.data.image_size
    points = [name for name, steps in run.network.architecture.layers if steps][:-1]
    found = compute_activations(
        run.network,
        variables,
        make_test_images(size, run.network.architecture.channels),
        points,
        jnp.float32,
    )
    own = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    parity = {
        "against": "itself alone, as it was exported",
        "size": size,
        "errors": dict.fromkeys(found, 0.0),
    }
    file.save(
        path,
        replace(card, parity=parity),
        unflatten_dict(own, sep="/"),
        {name: sample_values(value) for name, value in found.items()},
    )


def export_state_dict(opened: TrainedNetwork, project: str, path: Path) -> int:
    """Writes the arrays under a project's names: a .safetensors file, or with PyTorch a .pth file.

    Returns:
      The number of arrays.

    Raises:
      ConfigError: The project has no such network.
      DataError: Read back, they differ.
    """
    run, variables, card, _ = opened
    there = get_source_spec(project, card.model.name)
    table, wanted = run.network.architecture, there.architecture
    if (table.layers, table.unit) != (wanted.layers, wanted.unit):
        raise ConfigError(
            f"these are weights of {card.model.name} ({table.variant}), and {project}'s is our "
            f"variant {there.variant}: it computes another function; train that one"
        )
    arrays = to_theirs(there, run.network, variables)
    back = flatten_dict(to_ours(there, arrays).variables, sep="/")
    if any(
        not np.array_equal(back[name], leaf)
        for name, leaf in flatten_dict(variables, sep="/").items()
    ):
        raise DataError("read back, the arrays are not the same: nothing was written")
    if path.suffix == ".pth":
        torch = load_library("torch", "parity")
        archive = io.BytesIO()
        torch.save({name: torch.from_numpy(value) for name, value in arrays.items()}, archive)
        write_atomically(path, archive.getvalue())
    else:
        write_atomically(path, to_bytes(arrays))
    return len(arrays)


def _metadata(opened: TrainedNetwork) -> dict[str, Any]:
    """Returns the metadata of an export: class names, preprocessing, origin."""
    card = opened.card
    return {
        "model": f"{card.model.name} ({opened.run.network.architecture.variant})",
        "class_names": list(opened.run.class_names),
        "preprocessing": card.preprocessing,
        "source": card.source,
        "release": card.release,
        "licence": card.licence,
        "tuned_from": card.tuned_from,
    }


def _stablehlo(opened: TrainedNetwork, path: Path, *, pixels: bool) -> None:
    write_atomically(
        path, to_stablehlo(opened.run, opened.variables, pixels=pixels, metadata=_metadata(opened))
    )


def _savedmodel(opened: TrainedNetwork, path: Path, *, pixels: bool) -> None:
    to_savedmodel(opened.run, opened.variables, path, pixels=pixels)


def _onnx(opened: TrainedNetwork, path: Path, *, pixels: bool) -> None:
    data = opened.run.config.data
    if pixels and data.binarize:
        raise ConfigError("pixels to black and white have no ONNX here: export without --pixels")
    scaling = data.scaling if pixels else None
    metadata = {
        name: value if isinstance(value, str) else format_json(value)
        for name, value in _metadata(opened).items()
    }
    write_atomically(
        path,
        onnx.to_onnx(
            opened.run.network,
            opened.variables,
            image_size=data.image_size,
            scaling=scaling,
            metadata=metadata,
        ),
    )


def _onnx_opened(path: Path) -> Program:
    session = load_library("onnxruntime", "export").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    return lambda given: session.run(None, {"images": given})[0]


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "stablehlo": ExportFormat(_stablehlo, lambda path: from_stablehlo(path.read_bytes())),
    "savedmodel": ExportFormat(_savedmodel, from_savedmodel),
    "onnx": ExportFormat(_onnx, _onnx_opened),
}
