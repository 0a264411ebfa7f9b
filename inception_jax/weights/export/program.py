"""A trained network as one function of images with its parameters inside, for JAX's exporters."""

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from inception_jax.atomic_io import format_json
from inception_jax.experiment import Run
from inception_jax.weights.export.folding import fold_norms, merge_sibling_kernels
from inception_jax.weights.library import load_library

Program = Callable[[Any], jax.Array]


def make_program(
    run: Run, variables: Mapping[str, Any], *, pixels: bool, fold: bool = True
) -> Program:
    """Returns a function: scaled float32 images [B, size, size, C] -> logits [B, K].

    With `pixels`, uint8 images [B, size, size, 3] -> class probabilities.
    """
    network = run.network.clone(rewrites=())  # other machines run it than this one
    network, own = (
        merge_sibling_kernels(*fold_norms(network, variables))
        if fold
        else (network, jax.tree.map(np.asarray, dict(variables)))
    )

    def compute(images: jax.Array) -> jax.Array:
        outputs: Any = network.apply(own, run.prepare_evaluation(images) if pixels else images)
        return jax.nn.softmax(outputs.logits) if pixels else outputs.logits

    return compute


def get_input_signature(run: Run, *, pixels: bool) -> tuple[tuple[int, int, int], Any]:
    """Returns (height, width, channels) of an image, and the dtype of its values."""
    size = run.config.data.image_size
    return (
        size,
        size,
        3 if pixels else run.network.architecture.channels,
    ), jnp.uint8 if pixels else jnp.float32


def make_example_images(run: Run, batch: int, *, pixels: bool) -> np.ndarray:
    """Returns random images as input of the program."""
    shape, dtype = get_input_signature(run, pixels=pixels)
    rng = np.random.default_rng(batch)
    if pixels:
        return rng.integers(0, 256, (batch, *shape), np.uint8)
    return rng.uniform(-1, 1, (batch, *shape)).astype(dtype)


PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(
    run: Run,
    variables: Mapping[str, Any],
    *,
    pixels: bool,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Returns `make_program` as StableHLO for any batch size, on each of `PLATFORMS`.

    `read_metadata` reads the metadata from it.
    """
    shape, dtype = get_input_signature(run, pixels=pixels)
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), *shape), dtype)
    made = export.export(jax.jit(make_program(run, variables, pixels=pixels)), platforms=PLATFORMS)(
        images
    )
    # `jax.export` has no place for metadata but the name of the function, which nothing else reads.
    return bytes(dataclasses.replace(made, fun_name=format_json(dict(metadata or {}))).serialize())


def read_metadata(file: bytes) -> dict[str, Any]:
    """Returns class names, preprocessing, source and licence from the file of `to_stablehlo`."""
    return dict(json.loads(export.deserialize(bytearray(file)).fun_name))


def from_stablehlo(file: bytes) -> Program:
    """Returns the function in a file of `to_stablehlo`."""
    return export.deserialize(bytearray(file)).call


def to_savedmodel(run: Run, variables: Mapping[str, Any], folder: Path, *, pixels: bool) -> None:
    """Writes `make_program` for any batch size as `serving_default` of a SavedModel in `folder`.

    Raises:
      ConfigError: TensorFlow is not installed.
    """
    tf = load_library("tensorflow", "tensorflow")
    from jax.experimental import jax2tf

    shape, dtype = get_input_signature(run, pixels=pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax2tf, about what it is to become
        compute = make_program(run, variables, pixels=pixels)
        platforms = {"native_serialization_platforms": PLATFORMS}
        converted = jax2tf.convert(
            compute, polymorphic_shapes=["(b, ...)"], with_gradient=False, **platforms
        )
        module = tf.Module()
        signature = tf.TensorSpec((None, *shape), tf.as_dtype(dtype), name="images")
        module.call = tf.function(
            lambda images: converted(images), autograph=False, input_signature=[signature]
        )
        name = "probabilities" if pixels else "logits"
        serving = tf.function(
            lambda images: {name: converted(images)}, autograph=False, input_signature=[signature]
        )
        tf.saved_model.save(module, str(folder), signatures=serving)


def from_savedmodel(folder: Path) -> Program:
    """Returns the function in a folder of `to_savedmodel`."""
    return load_library("tensorflow", "tensorflow").saved_model.load(str(folder)).call
