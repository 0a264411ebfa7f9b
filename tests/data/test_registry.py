import io
import time

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import registry as sources
from inception_jax.data.batches import allocate_batch, fill_batch
from inception_jax.data.decode import decode, resize
from inception_jax.data.order import make_sequential_order
from inception_jax.data.registry import open_source
from inception_jax.data.source import ArraySource, DataError


def test_opening_an_unprepared_dataset_fails_at_once_and_names_the_command_to_run(tmp_path):
    began = time.monotonic()
    with pytest.raises(
        DataError,
        match=r"imagenet2012 is not prepared[\s\S]*inception-jax data prepare imagenet2012",
    ):
        open_source("imagenet2012", "train", str(tmp_path))
    assert time.monotonic() - began < 5


def test_opening_an_unknown_dataset_is_refused_by_name():
    with pytest.raises(DataError, match="no dataset is called 'digitz'"):
        open_source("digitz", "train")


def test_the_error_for_an_unknown_split_lists_the_available_splits():
    with pytest.raises(
        DataError, match=r"no split 'validation'; it has test, train|it has train, test"
    ):
        open_source("digits", "validation")


def test_the_digits_source_accepts_a_tfds_slice_of_a_split():
    assert len(open_source("digits", "train[:100]")) == 100


def test_the_error_for_an_unwritable_data_directory_names_the_field(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data\.directory"):
        open_source("digits", "train", str(tmp_path / "file"))


def test_users_register_a_data_source_under_a_new_name(monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", {})
    mine = ArraySource(np.zeros((3, 8, 8), np.uint8), np.arange(3), ("a", "b", "c"))
    sources.register_dataset("mine", lambda split, directory: mine)
    assert open_source("mine", "train")[2].label == 2
    with pytest.raises(ValueError, match="registered already"):
        sources.register_dataset("mine", lambda split, directory: mine)


def make(source, **options):
    def made(step, rows):
        def pixels(example, _, into):
            resize(decode(example.image), into, "bilinear")

        whole = allocate_batch(len(rows), 8)
        fill_batch(
            whole,
            step,
            rows,
            batch_size=3,
            order=make_sequential_order(len(source)),
            source=source,
            pixels=pixels,
            **options,
        )
        return whole

    return made


def photograph(seed, kind="JPEG"):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)).save(
        file, kind
    )
    return file.getvalue()


@pytest.fixture
def tree(tmp_path):
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "ant"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.jpg").write_bytes(photograph(i))
        (tmp_path / split / "cat" / ".DS_Store").write_text("")
    return tmp_path


def test_the_folder_source_reads_one_folder_for_each_class(tree):
    source = open_source("folder", "train", str(tree))
    assert (source.class_names, len(source)) == (("ant", "cat"), 6)
    assert [source[i].label for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert source[4].name.endswith("cat/1.jpg")
    assert decode(source[4].image).shape == (12, 16, 3)


def test_the_folder_source_decodes_a_png_file_that_is_named_jpg(tree):
    (tree / "train" / "ant" / "0.jpg").write_bytes(photograph(0, "PNG"))
    assert decode(open_source("folder", "train", str(tree))[0].image).shape == (12, 16, 3)


@pytest.mark.parametrize("broken", [b"", photograph(0)[:150]])
def test_the_error_for_a_broken_image_names_its_file(tree, broken):
    (tree / "train" / "ant" / "1.jpg").write_bytes(broken)
    source = open_source("folder", "train", str(tree))
    with pytest.raises(DataError, match=r"example 1 \(.*ant/1\.jpg\)"):
        make(source)(0, np.arange(3))


def test_the_folder_source_refuses_missing_and_empty_folders(tree):
    with pytest.raises(DataError, match=r"set data\.directory"):
        open_source("folder", "train")
    with pytest.raises(DataError, match="val is no folder"):
        open_source("folder", "val", str(tree))
    (tree / "train" / "bee").mkdir()
    with pytest.raises(DataError, match="no images of bee"):
        open_source("folder", "train", str(tree))


def test_synthetic_images_are_reproducible_and_separable():
    source = open_source("synthetic", "train[:300]")
    assert len(source) == 300
    np.testing.assert_array_equal(source[7].image, open_source("synthetic", "train")[7].image)
    assert (source[7].image != open_source("synthetic", "test")[7].image).any()
    # The strongest frequency of the spectrum tells the class.
    angles = []
    for i in range(300):
        spectrum = np.abs(np.fft.fft2(source[i].image - source[i].image.mean()))
        row, column = np.unravel_index(spectrum[:33].argmax(), (33, 64))
        angles.append(
            round(np.degrees(np.arctan2(column if column < 32 else column - 64, row)) / 18) % 10
        )
    assert np.mean([angle == source[i].label for i, angle in enumerate(angles)]) > 0.95
    with pytest.raises(DataError, match="no split 'validation'"):
        open_source("synthetic", "validation")


def test_skip_bad_gives_unreadable_examples_zero_weight_and_logs_them(tree, caplog):
    (tree / "train" / "ant" / "1.jpg").write_bytes(b"broken")
    (tree / "train" / "cat" / "0.jpg").unlink()
    source = open_source("folder", "train", str(tree))
    (tree / "train" / "cat" / "1.jpg").unlink()
    found = [make(source, skip_bad=True)(step, np.arange(3)) for step in range(2)]
    assert np.concatenate([part.weight for part in found]).tolist() == [1, 0, 1, 0, 1, 0]
    assert not found[0].image[1].any()
    assert [text for text in ("ant/1.jpg", "cat/1.jpg") if text in caplog.text] == [
        "ant/1.jpg",
        "cat/1.jpg",
    ]
    assert caplog.text.count("skipped example") == 2


@pytest.mark.parametrize(
    ("part", "first", "length"),
    [
        ("train[:4]", 0, 4),
        ("train[2:]", 2, 4),
        ("train[50%:]", 3, 3),
        ("train[1:3]", 1, 2),
        ("train[:99]", 0, 6),
    ],
)
def test_the_folder_source_slices_a_split_by_count_and_percentage(tree, part, first, length):
    whole, found = open_source("folder", "train", str(tree)), open_source("folder", part, str(tree))
    assert [found[i].name for i in range(len(found))] == [
        whole[first + i].name for i in range(length)
    ]


def test_the_folder_source_refuses_a_malformed_slice(tree):
    with pytest.raises(DataError, match=r"train\[x\]"):
        open_source("folder", "train[x]", str(tree))
