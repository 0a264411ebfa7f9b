"""The digits as a TFDS dataset in ArrayRecord, which needs no TensorFlow."""

import io

import tensorflow_datasets as tfds
from PIL import Image

from inception_jax.data.digits import CITATION, CLASS_NAMES, LICENCE, SPLITS, load_digits


class InceptionJaxDigits(tfds.core.GeneratorBasedBuilder):
    """Builds the scanned digits (8x8 pixels).

    Source: UCI "Optical Recognition of Handwritten Digits", test set.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(names=CLASS_NAMES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=CITATION,
            license=LICENCE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str):
        for key, (image, label) in enumerate(zip(*load_digits(split), strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            png.seek(0)
            yield key, {"image": png, "label": int(label)}
