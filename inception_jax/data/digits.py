"""The scanned digits that ship with the package, as arrays.

They are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak; UCI
Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0): 1,797 digits by 13 people, 8x8
pixels, grey levels 0 (paper) to 16 (ink). The first 1,347 are for training, the last 450 are held
out; a 3-nearest-neighbours classifier scores 0.971 on those.
"""

import gzip
from importlib import resources

import numpy as np

SPLITS = {"train": slice(0, 1347), "test": slice(1347, 1797)}
CLASS_NAMES = tuple("0123456789")
CITATION = (
    "E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI ML "
    "Repository, doi:10.24432/C50P49"
)
LICENCE = "CC BY 4.0"


def load_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [N, 8, 8] uint8 and labels [N] int32, in the order of the published file.

    Pixels are 0 for paper and 255 for ink.
    """
    packed = resources.files("inception_jax.data").joinpath("digits.csv.gz").read_bytes()
    table = np.array([line.split(b",") for line in gzip.decompress(packed).split()], np.int32)[
        SPLITS[split]
    ]
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8)
    return images.reshape(-1, 8, 8), table[:, 64]
