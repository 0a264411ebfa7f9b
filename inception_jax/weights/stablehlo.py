"""A trained network as one file of `jax.export`: StableHLO and its parameters, which JAX alone reads and runs."""

from collections.abc import Mapping
from typing import Any

import jax
from jax import export

from inception_jax.experiment import Run
from inception_jax.weights.program import Program, fed, program

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(run: Run, variables: Mapping[str, Any], *, pixels: bool) -> bytes:
    """What `program` computes, for any batch, on each of `PLATFORMS`."""
    shape, dtype = fed(run, pixels=pixels)
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), *shape), dtype)
    return bytes(export.export(jax.jit(program(run, variables, pixels=pixels)), platforms=PLATFORMS)(images).serialize())


def opened(file: bytes) -> Program:
    """What `exported` has written, to be called."""
    return export.deserialize(bytearray(file)).call
