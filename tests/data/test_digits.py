import numpy as np
from sklearn.datasets import load_digits as load_published_digits
from sklearn.neighbors import KNeighborsClassifier

from inception_jax.data.decode import decode
from inception_jax.data.digits import CLASS_NAMES, load_digits
from inception_jax.data.registry import open_source


def test_the_bundled_digits_are_the_published_digits_in_their_order():
    published = load_published_digits()
    for split, part in (("train", slice(0, 1347)), ("test", slice(1347, 1797))):
        images, labels = load_digits(split)
        np.testing.assert_array_equal(images, np.rint(published.images[part] * 255 / 16))
        np.testing.assert_array_equal(labels, published.target[part])


def test_three_nearest_neighbours_reach_0_971_on_the_digits():
    (train, labels), (test, wanted) = (load_digits(split) for split in ("train", "test"))
    neighbours = KNeighborsClassifier(3).fit(train.reshape(1347, -1), labels)
    assert round(neighbours.score(test.reshape(450, -1), wanted), 3) == 0.971


def test_the_digits_read_from_array_record_are_equal_bit_for_bit():
    for split in ("train", "test"):
        source, (images, labels) = open_source("digits", split), load_digits(split)
        assert source.class_names == CLASS_NAMES
        assert len(source) == len(images)
        for index in range(len(source)):
            image, label, _ = source[index]
            np.testing.assert_array_equal(decode(image)[..., 0], images[index])
            assert label == labels[index]
