"""Who publishes networks of the family: a table of names for each, and what their networks are fed."""

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
"""Source -> our name of a model -> how it is published there."""
