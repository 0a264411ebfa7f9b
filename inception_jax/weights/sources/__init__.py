"""Who publishes networks of the family: a table of names for each, and what their networks are fed."""

from collections.abc import Mapping

from inception_jax.weights.origin import Origin
from inception_jax.weights.sources import cadene, caffe, facenet, fid, keras, tf_slim, timm, torchvision

SOURCES: dict[str, Mapping[str, Origin]] = {
    "torchvision": torchvision.MODELS,
    "timm": timm.MODELS,
    "keras": keras.MODELS,
    "tf_slim": tf_slim.MODELS,
    "caffe": caffe.MODELS,
    "cadene": cadene.MODELS,
    "facenet": facenet.MODELS,
    "fid": fid.MODELS,
}
"""Source -> our name of a model -> how it is published there."""
