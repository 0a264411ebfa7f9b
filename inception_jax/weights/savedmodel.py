"""A trained network as TensorFlow's SavedModel, for TensorFlow Serving and what else reads them."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inception_jax.config import ConfigError
from inception_jax.experiment import Run
from inception_jax.weights.program import Program, fed, program
from inception_jax.weights.stablehlo import PLATFORMS


def exported(run: Run, variables: Mapping[str, Any], folder: Path, *, pixels: bool) -> None:
    """Writes what `program` computes, for any batch, as the signature `serving_default` of a SavedModel in `folder`.

    Raises:
      ConfigError: TensorFlow is not installed.
    """
    tf, jax2tf = _tensorflow()
    shape, dtype = fed(run, pixels=pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax2tf, about what it is to become
        compute = program(run, variables, pixels=pixels)
        platforms = {"native_serialization_platforms": PLATFORMS}
        converted = jax2tf.convert(compute, polymorphic_shapes=["(b, ...)"], with_gradient=False, **platforms)
        module = tf.Module()
        signature = tf.TensorSpec((None, *shape), tf.as_dtype(dtype), name="images")
        module.call = tf.function(lambda images: converted(images), autograph=False, input_signature=[signature])
        name = "probabilities" if pixels else "logits"
        serving = tf.function(lambda images: {name: converted(images)}, autograph=False, input_signature=[signature])
        tf.saved_model.save(module, str(folder), signatures=serving)


def opened(folder: Path) -> Program:
    """What `exported` has written, to be called."""
    tf, _ = _tensorflow()
    return tf.saved_model.load(str(folder)).call


def _tensorflow() -> tuple[Any, Any]:
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ImportError as error:
        raise ConfigError(f"SavedModels are written with TensorFlow ({error}): pip install 'inception-jax[tensorflow]'") from error
    return tf, jax2tf
