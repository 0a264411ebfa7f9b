import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from inception_jax.data import decode as module
from inception_jax.data.crop import Box
from inception_jax.data.decode import decode
from inception_jax.data.source import DataError
from tests.data.record_tensorflow import FILE, FIXED, SIZES

RNG = np.random.default_rng(0)
PHOTO = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (24, 32, 3), np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
)


def resize(pixels, size, rule):
    into = np.zeros((size, size, 3), np.uint8)
    module.resize(pixels, into, rule)
    return into


def encoded(kind, pixels=PHOTO, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_decode_returns_lossless_images_exactly():
    np.testing.assert_array_equal(decode(encoded("PNG")), PHOTO)
    grey = PHOTO[..., 0]
    np.testing.assert_array_equal(decode(encoded("PNG", grey)), np.repeat(grey[..., None], 3, -1))
    np.testing.assert_array_equal(decode(grey), np.repeat(grey[..., None], 3, -1))


def test_jpeg_decoding_matches_pillow_within_a_grey_level():
    data = encoded("JPEG", quality=92)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int32)
    assert np.abs(decode(data) - reference).mean() < 1


@pytest.mark.parametrize("rule", ["area", "antialias"])
def test_downscaling_agrees_with_pillows_antialiased_filter(rule):
    reference = np.asarray(
        Image.fromarray(PHOTO).resize((60, 60), Image.Resampling.BILINEAR), np.int32
    )
    assert np.abs(resize(PHOTO, 60, rule) - reference).mean() < (4 if rule == "area" else 1e-9)


def test_bilinear_area_and_antialias_upscaling_match_pillows_bilinear_filter():
    small = PHOTO[:8, :8]
    reference = np.asarray(
        Image.fromarray(small).resize((32, 32), Image.Resampling.BILINEAR), np.int32
    )
    for rule in ("bilinear", "area", "antialias"):
        assert np.abs(resize(small, 32, rule) - reference).max() <= 1


def test_pillow_decodes_and_resizes_without_opencv_and_simplejpeg(monkeypatch):
    monkeypatch.setattr(module, "cv2", None)
    monkeypatch.setattr(module, "simplejpeg", None)
    assert resize(decode(encoded("JPEG")), 32, "bilinear").shape == (32, 32, 3)


def test_resizing_into_a_part_of_an_array_writes_to_that_part_alone():
    for rule in ("bilinear", "area", "antialias", "bicubic_antialias", "tf1_bilinear"):
        whole = np.full((40, 40, 3), 7, np.uint8)
        module.resize(PHOTO, whole[4:36, 4:36], rule)
        np.testing.assert_array_equal(whole[4:36, 4:36], resize(PHOTO, 32, rule))
        whole[4:36, 4:36] = 7
        assert (whole == 7).all()


TENSORFLOW = np.load(FILE)


@pytest.mark.parametrize(
    ("rule", "worst"),
    [
        ("bilinear", 1),
        ("antialias", 1),
        ("tf1_bilinear", 0.51),
        ("area", 0.51),
        ("bicubic_antialias", 1.05),
    ],
)
def test_resizing_matches_tensorflow(rule, worst):
    """Within the rounding to bytes; Pillow rounds after the rows and again after the columns."""
    for size in SIZES if rule != "area" else SIZES[:1]:  # growing, TensorFlow's area repeats pixels
        expected = np.clip(TENSORFLOW[f"{rule}_{size}"] / FIXED, 0, 255)
        difference = np.abs(resize(TENSORFLOW["large"], size, rule) - expected)
        assert difference.max() <= worst
        assert difference.mean() < 0.3


@pytest.fixture(scope="module")
def photographs():
    return [Image.fromarray(image[20:395, 70:570]) for image in load_sample_images().images]


@pytest.mark.parametrize(
    ("size", "rule"),
    [(299, "area"), *((size, "antialias") for size in (32, 75, 128, 224, 299, 448))],
)
def test_decoded_and_resized_photographs_match_pillow_within_a_grey_level(photographs, size, rule):
    """`bilinear` is another filter: at 299 pixels 0.8 levels off on the flower, and 3.3 on the
    tiles of the temple's roof.
    """
    differences = []
    for photograph in photographs:
        file = io.BytesIO()
        photograph.save(file, "JPEG", quality=92)
        reference = np.asarray(
            Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BILINEAR),
            np.int32,
        )
        differences.append(np.abs(resize(decode(file.getvalue()), size, rule) - reference).mean())
    assert np.mean(differences) < 1


KINDS = [
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"subsampling": 2, "progressive": True},
    {"subsampling": 2, "restart_marker_blocks": 3},
    {"subsampling": 2, "optimize": True, "comment": b"an \xff\xc0 in a comment"},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_decoding_a_box_of_a_jpeg_equals_cropping_the_whole_image(photographs, options):
    """Bit for bit, though what lies below it is not decoded."""
    rng = np.random.default_rng(0)
    for photograph in (
        photographs[0],
        photographs[1].resize((333, 251)),
        photographs[1].convert("L"),
    ):
        file = io.BytesIO()
        photograph.save(file, "JPEG", quality=92, **options)
        for trailer in (b"", b"trailing"):
            data = file.getvalue() + trailer
            whole = decode(data)
            for _ in range(20):
                height, width = rng.integers(1, whole.shape[0]), rng.integers(1, whole.shape[1])
                box = Box(
                    int(rng.integers(whole.shape[0] - height)),
                    int(rng.integers(whole.shape[1] - width)),
                    int(height),
                    int(width),
                )
                expected = whole[box.top : box.top + height, box.left : box.left + width]
                np.testing.assert_array_equal(decode(data, lambda *_, box=box: box), expected)


def test_jpeg_rows_below_the_requested_box_are_not_decoded(photographs, monkeypatch):
    file = io.BytesIO()
    photographs[0].save(file, "JPEG", quality=92)
    heights = []
    original = module.simplejpeg.decode_jpeg
    monkeypatch.setattr(
        module.simplejpeg,
        "decode_jpeg",
        lambda *args, **kw: heights.append(len(found := original(*args, **kw))) or found,
    )
    assert decode(file.getvalue(), lambda *_: Box(10, 20, 100, 200)).shape == (100, 200, 3)
    assert heights == [128]


def test_a_truncated_jpeg_is_refused_even_if_the_requested_box_is_intact():
    data = encoded("JPEG")
    with pytest.raises(DataError, match="no readable image"):
        decode(data[:-200], lambda *_: Box(0, 0, 16, 16))


def test_decode_accepts_stray_bytes_that_libjpeg_warns_about():
    """Some of ImageNet's files have them; each reader of the field passes over them."""
    data = encoded("JPEG")
    strayed = data[:-2] + b"stray" + data[-2:]
    with pytest.raises(ValueError, match="xtraneous"):
        module.simplejpeg.decode_jpeg(strayed)
    assert np.abs(decode(strayed).astype(int) - decode(data)).mean() < 1


@pytest.mark.parametrize(
    "data", [b"", b"not an image", encoded("JPEG")[:200], encoded("PNG")[:100]]
)
def test_the_error_for_unreadable_images_shows_their_length_and_beginning(data):
    with pytest.raises(DataError, match=f"{len(data)} bytes that begin with"):
        decode(data)


def test_decode_refuses_arrays_of_other_types_or_channel_counts():
    with pytest.raises(DataError, match="float64"):
        decode(np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match=r"\(4, 4, 2\)"):
        decode(np.zeros((4, 4, 2), np.uint8))


def test_tf1_bilinear_resizing_aligns_its_grid_with_the_top_left_corner():
    """Output pixel (i, j) lies at (i * height / size, j * width / size) of the input; written out
    for each.
    """
    small = PHOTO[:37, :50]
    ours = resize(small, 29, "tf1_bilinear")
    for i in range(29):
        for j in range(29):
            y, x = i * 37 / 29, j * 50 / 29
            top, left = int(y), int(x)
            bottom, right = min(top + 1, 36), min(left + 1, 49)
            p = small.astype(float)
            above = p[top, left] * (1 - x + left) + p[top, right] * (x - left)
            below = p[bottom, left] * (1 - x + left) + p[bottom, right] * (x - left)
            assert np.abs(ours[i, j] - (above * (1 - y + top) + below * (y - top))).max() <= 0.501


def test_bicubic_resizing_matches_pillow():
    reference = np.asarray(Image.fromarray(PHOTO).resize((60, 60), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(PHOTO, 60, "bicubic_antialias"), reference)


def test_decode_converts_cmyk_to_rgb_as_pillow_does():
    file = io.BytesIO()
    Image.fromarray(PHOTO).convert("CMYK").save(file, "JPEG", quality=95)
    reference = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"), np.int32)
    np.testing.assert_array_equal(decode(file.getvalue()), reference)
    assert np.abs(reference - PHOTO).mean() < 12


def test_decode_rounds_16_bit_images_to_8_bits():
    wide = PHOTO[..., 0].astype(np.uint16) * 257
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue())[..., 1], PHOTO[..., 0])


def test_decode_refuses_an_animation():
    file = io.BytesIO()
    frames = [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1])]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="an animation of 2 frames"):
        decode(file.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(kind, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", None)
    with pytest.raises(DataError, match="160x120 pixels, more than 1,000"):
        decode(encoded(kind))


SIDES = np.zeros((8, 16, 3), np.uint8)
SIDES[:4, :8], SIDES[4:, :8], SIDES[:4, 8:], SIDES[4:, 8:] = (
    (250, 0, 0),
    (0, 250, 0),
    (0, 0, 250),
    (250, 250, 250),
)


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def turned(kind, orientation):
    """`SIDES` as a camera stores it that was held otherwise: turned and mirrored by Pillow, so
    that its EXIF undoes it.
    """
    undo = UNDO.get(orientation)
    image, exif, file = Image.fromarray(SIDES), Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored = image if undo is None else image.transpose(undo)
    stored.save(
        file,
        kind,
        exif=exif,
        **{"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {}),
    )
    return file.getvalue(), np.asarray(stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_turned_as_their_exif_orientation_says(kind, orientation):
    data, stored = turned(kind, orientation)
    assert np.abs(decode(data).astype(int) - SIDES).mean() < 8
    if kind != "TIFF":  # Pillow turns those by itself
        assert np.abs(decode(data, orientation="ignore").astype(int) - stored).mean() < 8
    assert module.has_exif_rotation(data) is (orientation > 1)


def test_a_part_of_a_turned_jpeg_is_a_part_of_the_upright_image():
    data, _ = turned("JPEG", 6)
    part = decode(data, lambda height, width: Box(0, width // 2, height // 2, width // 2))
    assert part.shape == (4, 8, 3)
    assert np.abs(part.astype(int) - SIDES[:4, 8:]).mean() < 8


def test_an_unreadable_exif_leaves_a_jpeg_as_it_lies():
    data, stored = turned("JPEG", 6)
    broken = data.replace(b"Exif\0\0II*\0", b"Exif\0\0XX*\0").replace(
        b"Exif\0\0MM\0*", b"Exif\0\0XX\0*"
    )
    assert decode(broken).shape == stored.shape
    assert not module.has_exif_rotation(b"no image")


def saved(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), "TIFF"),
        (np.linspace(0, 255, 12, dtype=np.float32).reshape(3, 4), "TIFF"),
        (np.arange(12, dtype=np.int32).reshape(3, 4) * 100_000, "TIFF"),
        (np.array([[-5, 40_000]], np.int32), "TIFF"),
    ],
)  # fmt: skip
def test_depths_that_map_to_no_8_bits_are_refused(pixels, kind):
    with pytest.raises(
        DataError, match="nothing says what is black and what is white: save it with 8 or 16 bits"
    ):
        decode(saved(pixels, kind))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_to_8_whatever_the_format(kind):
    wide = np.array([[0, 128, 129, 257, 32_768, 65_534, 65_535]], np.uint16)
    np.testing.assert_array_equal(decode(saved(wide, kind))[..., 0], np.rint(wide / 257))


def test_16_bits_a_colour_are_scaled_within_a_grey_level():
    cv2 = pytest.importorskip("cv2")
    wide = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    for kind in (".png", ".tiff"):
        found = decode(cv2.imencode(kind, wide[..., ::-1])[1].tobytes())
        assert np.abs(found - wide / 257).max() <= 1


def test_the_first_image_of_a_phones_file_is_taken():
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(
        file, "MPO", save_all=True, append_images=[Image.fromarray(PHOTO[::-1])], quality=95
    )
    assert np.abs(decode(file.getvalue()).astype(int) - PHOTO).mean() < 8  # of the other image 60
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    Image.fromarray(PHOTO[::-1, ::-1]).save(
        file, "MPO", save_all=True, append_images=[Image.fromarray(PHOTO)], quality=95, exif=exif
    )
    assert np.abs(decode(file.getvalue()).astype(int) - PHOTO).mean() < 8  # of the other image 60


def with_scans(count):
    """A small progressive JPEG whose last scan is there `count` times."""
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", progressive=True, quality=50)
    data = file.getvalue()
    last = (
        data.rindex(b"\xff\xc4")
        if data.rindex(b"\xff\xc4") > data.rindex(b"\xff\xda")
        else data.rindex(b"\xff\xda")
    )
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(monkeypatch):
    assert decode(with_scans(1)).shape == PHOTO.shape
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", None)
    with pytest.raises(
        DataError, match=r"a JPEG of \d+ scans over 19,200 pixels, more than encoders write"
    ):
        decode(with_scans(2010))


def test_resizing_that_would_fill_the_memory_is_refused():
    """Pillow makes rows first: of 2 x 200,000 pixels 600 MB, though the image has a megabyte, and
    what comes out 270 KB.
    """
    for shape in ((2**19, 2), (2, 2**19)):
        with pytest.raises(DataError, match="pixels, more than 67,108,864"):
            resize(np.zeros((*shape, 3), np.uint8), 299, "antialias")


def test_whatever_a_resizer_raises_is_a_data_error(monkeypatch):
    def broken(*arguments, **keywords):
        raise module.cv2.error("!ssize.empty()")

    monkeypatch.setattr(module.cv2, "resize", broken)
    with pytest.raises(
        DataError, match=r"an image of 160x120 pixels cannot be resized to 32x32 \(.*ssize"
    ):
        resize(PHOTO, 32, "bilinear")
    with pytest.raises(DataError, match="there is nothing to see"):
        decode(np.zeros((0, 5, 3), np.uint8))


def test_an_animation_of_many_frames_is_refused_by_its_second():
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((2, 2), i % 2 * 255, np.uint8)) for i in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    data = file.getvalue()
    start = data.index(b"\x21\xf9")
    with pytest.raises(DataError, match="an animation of many frames"):
        decode(data[:start] + data[start:-1] * 60_000 + b";")


def test_heic_is_named():
    with pytest.raises(DataError, match="HEIC, which is not read here: save it as JPEG"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def test_a_baseline_jpeg_with_a_scan_for_each_colour_has_no_more_than_a_few():
    """Scans of one colour may be repeated in a file that is not progressive, too."""
    data = encoded("JPEG", subsampling=0)
    first = data.index(b"\xff\xda")
    alone = data[:first] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[first + 14 : -2]
    with pytest.raises(DataError, match=r"a JPEG of \d+ scans"):
        decode(
            alone
            + (b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[first + 14 : first + 40]) * 100
            + b"\xff\xd9"
        )


def test_no_damage_to_an_exif_refuses_a_whole_image():
    """Some of ImageNet's images have damaged EXIF; their pixels are whole."""
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "WEBP"):
        data, stored = turned(kind, 6)
        start = data.index(b"Exif\0\0" if kind == "JPEG" else b"EXIF\x1a\0\0\0") + (
            6 if kind == "JPEG" else 8
        )
        for _ in range(200):
            damaged = bytearray(data)
            for place in rng.integers(start, start + 26, 3):
                damaged[place] = rng.integers(256)
            assert decode(bytes(damaged)).size == stored.size
