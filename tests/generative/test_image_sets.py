"""Sets of images in every form, in one order, with their labels."""

import gzip
import io
import json
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.generative.decoding import decode_rgb
from inception_jax.generative.image_sets import open_image_set, select_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), np.uint8)
NAMES = ["b/3.png", "a/1.PNG", "a/2.jpeg.png", "c/0.png", "b/1.png", "a/0.png"]


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(images):
    return np.stack([decode_rgb(images.load(i)).pixels for i in range(len(images))])


def write(form, path):
    """Writes the images under their names, with a stray text."""
    files = {name: png(image) for name, image in zip(NAMES, PIXELS, strict=True)}
    files |= {"a/notes.txt": b"none", "__MACOSX/a/._1.png": b"none"}
    if form == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path
    file = path / f"images.{form}"
    if form == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(file, "w:gz" if form.endswith("gz") else "w") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return file


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_images_are_found_in_order_with_their_classes(tmp_path, form):
    images = open_image_set(str(write(form, tmp_path)))
    order = np.argsort(NAMES) if form != "tar.gz" else np.arange(6)
    assert list(images.names) == [NAMES[i] for i in order]
    np.testing.assert_array_equal(pixels_of(images), PIXELS[order])
    assert images.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(images.labels, [ord(NAMES[i][0]) - ord("a") for i in order])


def test_a_folder_names_what_it_leaves_out_and_counts_folders(tmp_path):
    images = open_image_set(str(write("folder", tmp_path)))
    assert images.notes == ("1 files left out, which do not end as images do",)
    assert images.nested == 6


def test_stylegans_zip_has_its_labels(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i, image in enumerate(PIXELS):
            archive.writestr(f"00000/img{i}.png", png(image))
        labels = [[f"00000/img{i}.png", i % 2] for i in range(6)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    np.testing.assert_array_equal(
        open_image_set(str(tmp_path / "set.zip")).labels, [0, 1, 0, 1, 0, 1]
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_adms_batch_is_read_piece_by_piece_with_its_labels(tmp_path, save):
    save(tmp_path / "batch.npz", PIXELS, np.arange(6))
    images = open_image_set(str(tmp_path / "batch.npz"))
    np.testing.assert_array_equal(pixels_of(images), PIXELS)
    np.testing.assert_array_equal(images.load(1), PIXELS[1])  # backwards
    np.testing.assert_array_equal(images.labels, np.arange(6))


def test_arrays_of_grey_and_of_floats_are_read(tmp_path):
    np.save(tmp_path / "grey.npy", PIXELS[..., 0])
    np.testing.assert_array_equal(
        pixels_of(open_image_set(str(tmp_path / "grey.npy")))[..., 1], PIXELS[..., 0]
    )
    np.savez(tmp_path / "floats.npz", samples=PIXELS / np.float32(255), mean=np.zeros(3))
    images = open_image_set(str(tmp_path / "floats.npz"))
    assert images.is_float
    np.testing.assert_array_equal(images.load(2), PIXELS[2] / np.float32(255))


def test_idx_files_are_read_as_a_dataset(tmp_path):
    for split, count in (("train", 6), ("t10k", 2)):
        header = struct.pack(">IIII", 0x803, count, 8, 10)
        images = gzip.compress(header + PIXELS[:count, ..., 0].tobytes())
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(images)
        labels = struct.pack(">II", 0x801, count) + bytes([0, 1, 2, 0, 1, 2][:count])
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    images = open_image_set(f"idx:{tmp_path}/train")
    np.testing.assert_array_equal(pixels_of(images)[..., 2], PIXELS[..., 0])


def test_a_part_of_a_set_keeps_names_and_labels(tmp_path):
    images = select_images(open_image_set(str(write("zip", tmp_path))), [1, 4])
    assert list(images.names) == ["a/1.PNG", "b/3.png"]
    np.testing.assert_array_equal(images.labels, [0, 1])
    np.testing.assert_array_equal(pixels_of(images), PIXELS[[1, 0]])


def test_arrays_in_other_forms_are_refused(tmp_path):
    cases = {
        "first.npz": ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, "6, 3, 8, 10.*channels last"),
        "four.npz": ({"arr_0": np.zeros((2, 4, 4, 4), np.uint8)}, "2, 4, 4, 4"),
        "int.npz": ({"arr_0": PIXELS.astype(np.int64)}, "arr_0 is int64"),
        "other.npz": ({"mean": np.zeros(3), "rest": np.zeros(3)}, "holds 'mean', 'rest'"),
    }
    for name, (arrays, message) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(DataError, match=message):
            open_image_set(str(tmp_path / name))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects, which are not unpickled"):
        open_image_set(str(tmp_path / "objects.npy"))
    np.save(tmp_path / "columns.npy", np.asfortranarray(PIXELS))
    with pytest.raises(DataError, match="column-major"):
        open_image_set(str(tmp_path / "columns.npy"))


def test_what_is_no_set_of_images_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("none")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04broken")
    (tmp_path / "broken.tar").write_bytes(b"broken")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04broken")
    cases = [
        ("empty", DataError, "holds no images"),
        ("text.txt", ConfigError, "file of unknown kind"),
        ("nowhere", ConfigError, "is not there"),
        ("broken.zip", DataError, "make the archive again"),
        ("broken.tar", DataError, "make the archive again"),
        ("broken.npz", DataError, "save it again"),
    ]
    for name, kind, message in cases:
        with pytest.raises(kind, match=message):
            open_image_set(str(tmp_path / name))
    for text in ("idx:folder", "tfds:mnist/"):
        with pytest.raises(ConfigError, match="/SPLIT"):
            open_image_set(text)


def test_a_truncated_array_is_refused(tmp_path):
    np.save(tmp_path / "images.npy", PIXELS)
    data = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(data[:-300])
    with pytest.raises(DataError, match="declares 1,440 bytes, more than it has"):
        open_image_set(str(tmp_path / "images.npy"))


def test_one_image_is_no_set_of_images(tmp_path):
    np.save(tmp_path / "image.npy", PIXELS[0])
    with pytest.raises(DataError, match="8, 10, 3"):
        open_image_set(str(tmp_path / "image.npy"))


def test_damage_within_an_archive_is_an_error_of_its_image(tmp_path):
    """zlib's errors are no OSError: a traceback, which --skip-bad did not leave out."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", png(PIXELS[0]))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60:80] = bytes(20)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="cannot be unpacked"):
        open_image_set(str(tmp_path / "a.zip")).load(0)
    tar = write("tar.gz", tmp_path)
    data = bytearray(tar.read_bytes())
    data[100:140] = bytes(40)
    tar.write_bytes(data)
    with pytest.raises(DataError, match=r"make the archive again|cannot be unpacked"):
        pixels_of(open_image_set(str(tar)))


def test_a_zip_of_stylegan_without_labels_has_no_classes(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i, image in enumerate(PIXELS):
            archive.writestr(f"0000{i % 2}/img{i}.png", png(image))
        archive.writestr("dataset.json", json.dumps({"labels": None}))
    assert open_image_set(str(tmp_path / "set.zip")).labels is None
