"""The projects that publish networks of the family: names of arrays, and inputs."""

from collections.abc import Mapping

from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import (
    cadene,
    caffe,
    facenet,
    fid,
    keras,
    tf_slim,
    timm,
    torchvision,
)

SOURCES: dict[str, Mapping[str, SourceSpec]] = {
    module.__name__.rpartition(".")[2]: module.MODELS
    for module in (torchvision, timm, keras, tf_slim, caffe, cadene, facenet, fid)
}
"""Project -> name of the network here -> the network as published."""
