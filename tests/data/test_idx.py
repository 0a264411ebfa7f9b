import gzip
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from etils import epath

from inception_jax.commands.data import data as run_data_command
from inception_jax.data.batches import allocate_batch, fill_batch
from inception_jax.data.decode import decode, resize
from inception_jax.data.order import make_sequential_order, make_shuffled_order
from inception_jax.data.registry import open_source
from inception_jax.data.source import ArraySource, DataError, PartSource, find_stored_arrays
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.recipes import load_recipe
from inception_jax.trainer.loop import fit

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 4), np.uint8)
LABELS = [3, 0, 1, 2, 3, 2, 1, 0, 0, 1, 2, 3]


def images_file(images):
    return struct.pack(">BBBB3I", 0, 0, 8, 3, *images.shape) + bytes(images.ravel().tolist())


def labels_file(labels):
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels)


def write(folder, dataset="", test="t10k", endings=("-idx3-ubyte", "-idx1-ubyte"), pack=bytes):
    """Writes the twelve images for training, and the first four for testing."""
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 12), (test, 4)):
        names = [
            f"{dataset}{split}-{content}{ending}"
            for content, ending in zip(("images", "labels"), endings, strict=True)
        ]
        (folder / names[0]).write_bytes(pack(images_file(IMAGES[:count])))
        (folder / names[1]).write_bytes(pack(labels_file(LABELS[:count])))
    return folder


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"endings": ("-idx3-ubyte.gz", "-idx1-ubyte.gz"), "pack": gzip.compress},
        {"pack": gzip.compress},
        {"endings": ("-idx3-ubyte.gz", "-idx1-ubyte.gz")},
        {"endings": (".idx3-ubyte", ".idx1-ubyte")},
        {"dataset": "kmnist-", "test": "test"},
    ],
    ids=["plain", "gzip", "gzip unnamed", "plain named gz", "dots", "prefix"],
)
def test_idx_files_hold_the_bytes_that_were_written(tmp_path, form):
    folder = str(write(tmp_path / "idx", **form))
    for split, count in (("train", 12), ("test", 4)):
        source = open_source("idx", split, folder)
        assert (len(source), source.class_names) == (count, ("0", "1", "2", "3"))
        for i in range(count):
            np.testing.assert_array_equal(source[i].image, IMAGES[i])
            assert source[i].label == LABELS[i]
    part = open_source("idx", "train[3:5]", folder)
    assert [part[i].label for i in range(len(part))] == LABELS[3:5]


def test_the_first_column_of_qmnist_labels_is_the_class(tmp_path):
    folder = write(
        tmp_path / "q", "qmnist-", "test", endings=("-idx3-ubyte.gz", "-idx2-int.gz"),
        pack=gzip.compress,
    )  # fmt: skip
    for split, count in (("train", 12), ("test", 4)):
        table = b"".join(
            struct.pack(">8i", label, 4, 70_000, 7, 1, 2, -1, 0) for label in LABELS[:count]
        )
        (folder / f"qmnist-{split}-labels-idx2-int.gz").write_bytes(
            gzip.compress(struct.pack(">BBBB2I", 0, 0, 12, 2, count, 8) + table)
        )
    source = open_source("idx", "train", str(folder))
    assert [source[i].label for i in range(12)] == LABELS


def test_emnist_images_are_transposed_with_a_note(tmp_path, caplog):
    folder = str(write(tmp_path / "idx", "emnist-letters-", "test"))
    source = open_source("idx", "train", folder)
    for y, x in ((0, 0), (5, 1), (2, 3)):
        assert source[7].image[x, y] == IMAGES[7, y, x]
    assert "emnist-letters-train-images-idx3-ubyte: images are transposed" in caplog.text


def test_labels_that_begin_at_1_count_from_0_in_both_splits(tmp_path):
    folder = write(tmp_path / "idx")
    for split, count in (("train", 12), ("t10k", 4)):
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(
            labels_file([label + 1 for label in LABELS[:count]])
        )
    for split in ("train", "test"):
        source = open_source("idx", split, str(folder))
        assert source.class_names == ("1", "2", "3", "4")
        assert [source[i].label for i in range(4)] == LABELS[:4]


def test_a_split_that_lacks_a_class_has_the_classes_of_the_other(tmp_path):
    folder = write(tmp_path / "idx")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(labels_file([0, 1, 1, 0]))
    assert open_source("idx", "test", str(folder)).class_names == ("0", "1", "2", "3")


def test_classes_txt_names_the_classes_and_is_refused_with_another_count(tmp_path):
    folder = write(tmp_path / "idx")
    (folder / "classes.txt").write_text("T-shirt/top\nTrouser\nPullover\nDress\n")
    source = open_source("idx", "test", str(folder))
    assert source.class_names == ("T-shirt/top", "Trouser", "Pullover", "Dress")
    for text in ("a\nb\nc\n", "a\nb\nc\nd\ne\n", "a\nb\nc\nc\n"):
        (folder / "classes.txt").write_text(text)
        with pytest.raises(DataError, match=r"classes\.txt holds .* there are 4 classes, 0 to 3"):
            open_source("idx", "test", str(folder))


GOOD = images_file(IMAGES)
PACKED = gzip.compress(GOOD)
MALFORMED = {
    "trailing": (
        "images", GOOD + b"\0", r"holds 305 bytes, and its sizes \[12, 6, 4\] of uint8 need 304",
    ),
    "cut off": ("images", GOOD[:-1], "holds 303 bytes, and its sizes"),
    "sizes cut off": ("images", GOOD[:10], "ends after 10 bytes, and its header has 16"),
    "empty": ("images", b"", "bytes of an empty file"),
    "magic": ("images", b"\1" + GOOD[1:], "begins with the bytes 01 00 08 03"),
    "HTML": ("images", b"<html>not found</html>", "begins with the bytes 3c 68 74 6d"),
    "floats": ("images", b"\0\0\x0d\3" + GOOD[4:], "begins with the bytes 00 00 0d 03"),
    "no sizes": ("images", b"\0\0\x08\0" + GOOD[4:], "begins with the bytes 00 00 08 00"),
    "many sizes": (
        "images", b"\0\0\x08\xff" + struct.pack(">255I", *[1] * 255) + b"\0", "00 00 08 ff",
    ),
    "gzip cut off": ("images", PACKED[:-20], "cannot be read .*download it again"),
    "gzip damaged": ("images", PACKED[:40] + b"\xff" * 9 + PACKED[49:], "cannot be read"),
    "gzip and more": ("images", PACKED + b"more", "cannot be read"),
    "labels as images": ("images", labels_file(LABELS), r"holds uint8 \[12\]: wanted are images"),
    "no pixels": ("images", images_file(IMAGES[:, :0]), r"its sizes are \[12, 0, 4\]"),
    "no images": ("images", images_file(IMAGES[:0]), r"holds no pixels: its sizes are \[0, 6, 4\]"),
    "images as labels": ("labels", GOOD, r"holds uint8 \[12, 6, 4\]: wanted are labels"),
    "no labels": ("labels", labels_file([]), r"holds uint8 \[0\]: wanted are labels"),
    "few labels": ("labels", labels_file(LABELS[:11]), "12 images, and .* 11 labels"),
    "negative": (
        "labels", struct.pack(">BBBB13i", 0, 0, 12, 1, 12, *LABELS[:11], -3), "holds the label -3",
    ),
    "gap": ("labels", labels_file([*LABELS[:11], 200]), "5 different labels from 0 to 200"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MALFORMED)
def test_the_error_for_a_malformed_idx_file_says_what_was_found_and_names_it(tmp_path, fault):
    folder = write(tmp_path / "idx")
    content, written, message = MALFORMED[fault]
    name = f"train-{content}-idx{3 if content == 'images' else 1}-ubyte"
    (folder / name).write_bytes(written)
    with pytest.raises(DataError, match=message) as raised:
        open_source("idx", "train", str(folder))
    assert (str(folder) if fault == "gap" else name) in str(raised.value)


def test_the_error_for_missing_idx_files_says_what_is_wanted(tmp_path):
    with pytest.raises(DataError, match=r"set data\.directory to the folder"):
        open_source("idx", "train")
    with pytest.raises(DataError, match=r"nowhere cannot be listed .*wanted is a folder of IDX"):
        open_source("idx", "train", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no IDX files: wanted are train-images-idx3-ubyte"):
        open_source("idx", "train", str(tmp_path))
    folder = write(tmp_path / "idx")
    with pytest.raises(DataError, match="has no split 'validation'; it has train, test"):
        open_source("idx", "validation", str(folder))
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte, and no labels of test"):
        open_source("idx", "train", str(folder))


def test_a_folder_of_several_datasets_is_refused_with_their_names(tmp_path):
    for name in ("emnist-letters", "emnist-digits"):
        write(tmp_path / "idx", f"{name}-", "test")
    with pytest.raises(DataError, match="2 datasets, emnist-digits, emnist-letters: give a folder"):
        open_source("idx", "train", str(tmp_path / "idx"))
    folder = write(tmp_path / "twice")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(PACKED)
    (folder / "._emnist-letters-train-images-idx3-ubyte").write_bytes(b"of macOS")
    assert len(open_source("idx", "train", str(folder)))  # the unpacked one, as torchvision's
    (folder / "train-images.idx3-ubyte").write_bytes(PACKED)
    with pytest.raises(DataError, match=r"idx3-ubyte and train-images\.idx3-ubyte: remove one"):
        open_source("idx", "train", str(folder))


def test_idx_files_become_records_of_the_same_pixels(tmp_path, capsys):
    folder, records = write(tmp_path / "idx"), tmp_path / "records"
    (folder / "classes.txt").write_text("a\nb\nc\nd\n")
    run_data_command(["prepare", str(folder), str(records)])
    assert "train: 12 examples\ntest: 4 examples\n" in capsys.readouterr().out
    assert set(json.loads((records / "records.json").read_bytes())["splits"]) == {"train", "test"}
    for split in ("train", "test"):
        wanted = open_source("idx", split, str(folder))
        found = open_source("records", split, str(records))
        assert (len(found), found.class_names) == (len(wanted), wanted.class_names)
        for i in range(len(wanted)):
            np.testing.assert_array_equal(decode(found[i].image), decode(wanted[i].image))
            assert found[i].label == wanted[i].label


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., None], np.stack([IMAGES] * 3, -1)])
@pytest.mark.parametrize("part", [None, range(2, 11), [7, 0, 3, 11]])
def test_a_batch_copied_from_arrays_equals_one_that_is_read_image_by_image(images, part):
    whole = ArraySource(images[:, :4], np.array(LABELS), tuple("abcd"))
    source = whole if part is None else PartSource(whole, part)
    stored = find_stored_arrays(source)

    def pixels(example, _, into):
        resize(decode(example.image), into, "bilinear")

    for order in (make_shuffled_order(len(source), 0), make_sequential_order(len(source))):
        for step in range(3):
            slow, fast = allocate_batch(5, 4), allocate_batch(5, 4)
            options = {"batch_size": 5, "order": order, "source": source, "pixels": pixels}
            fill_batch(slow, step, np.arange(5), **options)
            fill_batch(fast, step, np.arange(5), **options, stored=stored)
            for a, b in zip(slow, fast, strict=True):
                np.testing.assert_array_equal(a, b)


def test_copying_from_arrays_keeps_the_error_for_a_label_out_of_range():
    source = ArraySource(IMAGES[:, :4], np.array(LABELS), tuple("abc"))
    with pytest.raises(DataError, match="example 0: label 3, but there are 3 classes"):
        fill_batch(
            allocate_batch(5, 4), 0, np.arange(5), batch_size=5, order=make_sequential_order(12),
            source=source, pixels=lambda *_: None, stored=find_stored_arrays(source),
        )  # fmt: skip


@pytest.mark.parametrize(
    "images", [[b"encoded"] * 12, np.array([b"encoded"] * 12), IMAGES.astype(np.float32)]
)
def test_images_that_are_not_pixels_have_no_stored_arrays(images):
    assert find_stored_arrays(ArraySource(images, np.array(LABELS), tuple("abcd"))) is None


@pytest.mark.slow
def test_the_mnist_network_learns_from_idx_files(tmp_path):
    """Trains on bars in three places, which tell the classes apart."""
    folder = tmp_path / "bars"
    folder.mkdir()
    for split, count in (("train", 300), ("t10k", 60)):
        labels = [i % 3 for i in range(count)]
        images = np.random.default_rng(count).integers(0, 100, (count, 28, 28), np.uint8)
        for i, label in enumerate(labels):
            images[i, 4 + 8 * label : 8 + 8 * label] = 200
        (folder / f"{split}-images-idx3-ubyte").write_bytes(images_file(images))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(labels_file(labels))
    config = load_recipe("mnist_bn").config
    data = replace(config.data, name="idx", directory=str(folder))
    norm = replace(config.norm, decay=0.8)
    config = replace(config, data=data, norm=norm, steps=40, evaluate_every_epochs=8)
    run = Run(config, all_devices_placement())
    _, results = fit(run, epath.Path(tmp_path / "run"))
    assert (results["count"], results["top1"]) == (60, 1.0)
