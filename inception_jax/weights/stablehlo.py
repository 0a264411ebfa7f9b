"""A trained network as one file of `jax.export`: StableHLO and its parameters, which JAX alone reads and runs."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
from jax import export

from inception_jax.experiment import Run
from inception_jax.files import json_text
from inception_jax.weights.program import Program, fed, program

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(run: Run, variables: Mapping[str, Any], *, pixels: bool, metadata: Mapping[str, Any] | None = None) -> bytes:
    """Returns what `program` computes, for any batch, on each of `PLATFORMS`; `read_metadata` reads the metadata from it."""
    shape, dtype = fed(run, pixels=pixels)
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), *shape), dtype)
    made = export.export(jax.jit(program(run, variables, pixels=pixels)), platforms=PLATFORMS)(images)
    # `jax.export` has no place for metadata but the name of the function, which nothing else reads.
    return bytes(dataclasses.replace(made, fun_name=json_text(dict(metadata or {}))).serialize())


def read_metadata(file: bytes) -> dict[str, Any]:
    """Returns class names, preprocessing, source and licence of what `exported` has written."""
    return dict(json.loads(export.deserialize(bytearray(file)).fun_name))


def opened(file: bytes) -> Program:
    """What `exported` has written, to be called."""
    return export.deserialize(bytearray(file)).call
