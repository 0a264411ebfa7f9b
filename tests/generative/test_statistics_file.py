"""Statistics files: whole, of a known origin, and compared only with their like."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.generative import statistics_file
from inception_jax.generative.feature_set import FeatureSet
from inception_jax.generative.frechet import frechet_distance, moments_from_rows
from inception_jax.generative.presets import PRESETS
from inception_jax.generative.statistics_file import (
    check_comparable,
    is_statistics,
    read_statistics,
    save_statistics,
)
from tests.generative.samples import load

FEATURES = load("features_fixture")
FEW = load("rank_deficient_fixture")
FACTS = {"preset": "adm/1", "weights": "abc", "set": "photos", "platform": "cpu"}


def make_set(rows, **fields):
    return FeatureSet("photos", moments_from_rows(rows), facts=dict(FACTS), **fields)


def test_a_file_has_the_moments_and_says_what_they_are_of(tmp_path):
    digests = np.random.default_rng(0).integers(0, 256, (300, 16), np.uint8)
    found = make_set(FEATURES["real"], digests=digests, labels=np.arange(300) % 4)
    found.spatial = moments_from_rows(FEATURES["fake"])
    save_statistics(tmp_path / "a.safetensors", found)
    again = read_statistics(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.moments.mean, found.moments.mean)
    np.testing.assert_array_equal(again.moments.covariance, found.moments.covariance)
    np.testing.assert_array_equal(again.spatial.covariance, found.spatial.covariance)
    np.testing.assert_array_equal(again.labels, found.labels)
    assert again.count == 300
    assert again.images_digest == found.images_digest != ""
    for name, value in FACTS.items():
        assert again.facts[name] == value
    assert {"jax", "numpy"} <= set(map(str.lower, again.facts["versions"]))
    assert again.features is None
    with pytest.raises(DataError, match=r"kid needs the features.*--keep-features"):
        again.require("features", "kid")


def test_of_few_images_the_features_are_kept_so_that_their_distance_is_exact(tmp_path):
    for name, rows in FEW.items():
        save_statistics(tmp_path / f"{name}.safetensors", make_set(rows))
    real, fake = (read_statistics(tmp_path / f"{name}.safetensors") for name in "ab")
    value = frechet_distance(real.moments, fake.moments).value
    assert value == pytest.approx(61.90668318569289, rel=1e-12)
    np.testing.assert_allclose(real.features, FEW["a"], rtol=1e-12)


def test_kept_features_are_in_the_file(tmp_path):
    found = make_set(FEATURES["real"], features=FEATURES["real"].astype(np.float32))
    save_statistics(tmp_path / "a.safetensors", found, keep_features=True)
    again = read_statistics(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.features, FEATURES["real"])
    with pytest.raises(DataError, match="needs the features"):
        save_statistics(tmp_path / "b.safetensors", make_set(FEATURES["real"]), keep_features=True)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "a.safetensors"
    save_statistics(file, make_set(FEATURES["real"]))
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    (tmp_path / "numbers.safetensors").write_bytes(data)
    (tmp_path / "header.safetensors").write_bytes(file.read_bytes().replace(b"adm/1", b"edm/1"))
    (tmp_path / "short.safetensors").write_bytes(file.read_bytes()[:-9])
    for name, message in (
        ("numbers", "its numbers are not those"),
        ("header", "its header is not that"),
        ("short", "no whole file"),
        ("nowhere", "is no file"),
    ):
        with pytest.raises(DataError, match=message):
            read_statistics(tmp_path / f"{name}.safetensors")


def test_weights_are_no_statistics(tmp_path):
    from tests.generative.samples import make_small_weights

    with pytest.raises(DataError, match="has no statistics but weights"):
        read_statistics(make_small_weights(tmp_path / "w.safetensors"))


MEAN, COVARIANCE = FEATURES["real"].mean(0), np.cov(FEATURES["real"], rowvar=False)


def write_foreign(form, path):
    both = {"mu": MEAN, "sigma": COVARIANCE}
    if form == "npz":
        np.savez(path / "cifar10.npz", **both)
        return path / "cifar10.npz"
    if form == "adm":
        images = np.zeros((3, 4, 4, 3), np.uint8)
        np.savez(path / "ref.npz", arr_0=images, mu_s=MEAN, sigma_s=COVARIANCE, **both)
        return path / "ref.npz"
    if form == "clean-fid":
        np.savez(path / "ffhq_legacy_tensorflow_trainval_256.npz", **both)
        return path / "ffhq_legacy_tensorflow_trainval_256.npz"
    protocol = {"edm2-2": 2, "edm2-4": 4, "edm2-5": 5}[form]
    data = pickle.dumps({"num_images": 300, "fid": both, "fd_dinov2": both}, protocol)
    (path / "edm2.pkl").write_bytes(data)
    return path / "edm2.pkl"


@pytest.mark.parametrize("form", ["npz", "adm", "clean-fid", "edm2-2", "edm2-4", "edm2-5"])
def test_statistics_of_other_programs_are_read_under_a_preset_that_is_named(tmp_path, form):
    file = write_foreign(form, tmp_path)
    assert is_statistics(file)
    found = read_statistics(file, PRESETS["adm"])
    np.testing.assert_array_equal(found.moments.mean, MEAN)
    np.testing.assert_array_equal(found.moments.covariance, COVARIANCE)
    assert found.count == (300 if form.startswith("edm2") else None)
    assert (found.spatial is not None) == (form == "adm")
    assert found.notes[0].startswith("statistics of unknown origin, taken as of adm/1")
    with pytest.raises(ConfigError, match="name the program that made it with --preset"):
        read_statistics(file)


def test_kid_features_of_clean_fid_are_read(tmp_path):
    np.savez(tmp_path / "ffhq_clean_trainval_256_kid.npz", feats=FEATURES["real"])
    found = read_statistics(tmp_path / "ffhq_clean_trainval_256_kid.npz", PRESETS["clean-fid"])
    np.testing.assert_array_equal(found.features, FEATURES["real"])
    assert found.count == 300


def test_a_file_whose_name_says_another_resize_is_refused(tmp_path):
    file = write_foreign("clean-fid", tmp_path)
    with pytest.raises(ConfigError, match=r"mode legacy_tensorflow.*clean-fid/1 by bicubic"):
        read_statistics(file, PRESETS["clean-fid"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": MEAN, "sigma": COVARIANCE[:3]}, "mu is .64. and sigma .3, 64."),
        ({"mu": MEAN, "sigma": COVARIANCE * np.nan}, "NaN or infinite"),
        ({"mu": MEAN, "sigma": COVARIANCE + np.eye(64, k=1)}, "not symmetric"),
        ({"mu": MEAN, "sigma": np.array([{}], object)}, "Python objects"),
    ],
)
def test_broken_statistics_of_other_programs_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_statistics(tmp_path / "a.npz", PRESETS["adm"])


def test_fidjaxs_own_file_is_refused_with_a_reason(tmp_path):
    """`np.savez(f, {"mu": ..., "sigma": ...})` makes an object of a dictionary."""
    np.savez(tmp_path / "a.npz", {"mu": MEAN, "sigma": COVARIANCE})
    with pytest.raises(DataError, match="Python objects, which are not unpickled"):
        is_statistics(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_images": "50k"}, "num_images is '50k'"),
        ({"mu": np.array(["a"])}, "wanted are numbers"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "wanted are"),
    ],
)
def test_odd_values_in_a_pickle_are_refused(tmp_path, more, message):
    given = {"num_images": 300, "mu": MEAN, "sigma": COVARIANCE, **more}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(given, 4))
    with pytest.raises(DataError, match=message):
        read_statistics(tmp_path / "a.pkl", PRESETS["edm"])


@pytest.mark.parametrize("change", ["facts", "count", "shape", "nan"])
def test_a_file_made_by_hand_is_refused_where_it_is_not_whole(tmp_path, monkeypatch, change):
    found = make_set(FEATURES["real"])
    if change in ("shape", "nan"):
        mean = found.moments.mean[:3] if change == "shape" else found.moments.mean * np.nan
        found.moments = replace(found.moments, mean=mean)
    formatted = {"facts": [], "count": {"format_version": 1}}
    if change in formatted:
        own = statistics_file.format_json
        given = formatted[change]
        monkeypatch.setattr(
            statistics_file, "format_json",
            lambda facts: own({**given, "arrays": facts["arrays"]} if given else []),
        )  # fmt: skip
    save_statistics(tmp_path / "a.safetensors", found)
    with pytest.raises(DataError, match=r"no facts|cannot be read"):
        read_statistics(tmp_path / "a.safetensors")


def test_flags_of_a_pickled_dtype_are_not_taken(tmp_path):
    """A flag of NumPy would make pointers to objects of numbers."""

    class Flagged:
        def __reduce__(self):
            return np.dtype, ("i8", False, True), (3, "<", None, None, None, -1, -1, 63)

    class Array:
        def __reduce__(self):
            rebuild, arguments, _ = np.zeros(1).__reduce__()
            return rebuild, arguments, (1, (2,), Flagged(), False, bytes(16))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"mu": Array(), "sigma": COVARIANCE}, 2))
    with pytest.raises(DataError, match="wanted are"):
        read_statistics(tmp_path / "a.pkl", PRESETS["edm"])


def test_a_pickle_of_more_than_arrays_is_refused(tmp_path):
    class Stats:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"fid": Stats()}))
    with pytest.raises(DataError, match="could run code, and is refused"):
        read_statistics(tmp_path / "a.pkl", PRESETS["edm"])


def test_two_presets_or_two_weights_are_not_compared_unless_asked_to():
    other = {**FACTS, "preset": "edm/1"}
    with pytest.raises(ConfigError, match=r"different preset adm/1 and edm/1.*--anyway"):
        check_comparable(FACTS, other)
    with pytest.raises(ConfigError, match="different weights"):
        check_comparable(FACTS, {**FACTS, "weights": "abd"})
    (note,) = check_comparable(FACTS, other, anyway=True)
    assert "although they are of different preset" in note


def test_other_platforms_are_told_and_compared():
    """IQA-PyTorch 188: the second decimal differs between servers."""
    assert check_comparable(FACTS, dict(FACTS)) == []
    assert check_comparable(FACTS, {**FACTS, "platform": "gpu"}) == [
        "computed with different platform: cpu and gpu"
    ]
    # A file of another program records none of these.
    assert check_comparable({"preset": "adm/1"}, FACTS) == []
