"""The table of releases, against the networks here and the metadata of timm and torchvision."""

import functools
import re

import pytest

from inception_jax.data.augment import SCALINGS
from inception_jax.models import get_architecture
from inception_jax.spec.measure import min_image_size
from inception_jax.weights.convert.preprocessing import TIMM_FILTERS
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.reference.reference_models import import_torchvision
from inception_jax.weights.releases import CLASS_LISTS, RELEASES

DIGITS = {"sha256": 64, "md5": 32, "sha1": 40}


smallest_size = functools.cache(min_image_size)


def get_input(release):
    return release.get_input(SOURCES[release.source][release.model].data)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.id)
def test_a_release_fits_the_network_that_it_names(release):
    spec = SOURCES[release.source][release.model]
    table = get_architecture(spec.model, spec.variant)
    size = get_input(release).image_size
    assert size >= smallest_size(table)
    assert release.num_classes in CLASS_LISTS
    known = {count for count, _ in spec.offsets} | {0, 1000}
    assert release.num_classes in known
    if release.score_size:
        assert 128 <= release.score_size <= 448
    assert (release.top1 is None) == (release.top5 is None)
    assert release.top1 is None or 50 < release.top1 < release.top5 < 100
    assert release.licence
    assert release.facts


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.id)
def test_a_release_says_where_its_file_is_and_how_it_is_checked(release):
    assert sum(map(bool, (release.repository, release.url, release.page))) == 1
    assert release.file
    assert "/" not in release.file
    assert release.url.startswith(("https://", "http://")) or not release.url
    assert not release.url or release.url.endswith(release.file)
    for kind, value in release.digests.items():
        assert re.fullmatch("[0-9a-f]+", value)
        assert 8 <= len(value) <= DIGITS[kind]
        assert kind == "sha256" or len(value) == DIGITS[kind]
    if release.digests.get("sha256"):  # PyTorch's convention: the file's name ends with it
        assert re.search(rf"-{release.sha256}\.pth", release.file)


def test_ids_are_unique():
    assert len({release.id for release in RELEASES}) == len(RELEASES)


def import_timm_models():
    pytest.importorskip("torch")
    import_torchvision()  # which timm imports
    return pytest.importorskip("timm.models")


TIMM = [release for release in RELEASES if release.source == "timm"]


@pytest.mark.parity
@pytest.mark.parametrize("release", TIMM, ids=lambda release: release.id)
def test_timms_own_configuration_says_the_same(release):
    models = import_timm_models()
    own = models.get_pretrained_cfg(release.id.removeprefix("timm/"))
    data = get_input(release)
    assert own.hf_hub_id == release.repository
    assert own.num_classes == release.num_classes
    assert own.input_size == (3, data.image_size, data.image_size)
    assert own.crop_pct == pytest.approx(data.test_crop_fraction)
    assert own.crop_mode == "center"
    assert TIMM_FILTERS[own.interpolation] == data.resize
    mean, deviation = SCALINGS[data.scaling]
    assert own.mean == pytest.approx(mean, abs=1e-4)
    assert own.std == pytest.approx(deviation, abs=1e-4)


@pytest.mark.parity
def test_every_release_of_timm_has_a_row():
    models = import_timm_models()
    names = {release.id.split("/")[1].split(".")[0] for release in TIMM}
    assert len(names) == 14
    theirs = {f"timm/{name}" for name in models.list_pretrained() if name.split(".")[0] in names}
    assert theirs == {release.id for release in TIMM}


@pytest.mark.parity
@pytest.mark.parametrize(
    "release",
    [release for release in RELEASES if release.source == "torchvision"],
    ids=lambda release: release.id,
)
def test_torchvisions_own_metadata_say_the_same(release):
    models = import_torchvision().models
    name, version = release.id.removeprefix("torchvision/").split(".")
    (own,) = [one for one in models.get_model_weights(name) if one.name.lower() == version]
    data, transforms = get_input(release), own.transforms()
    assert own.url == release.url
    assert release.sha256 in own.url
    assert transforms.crop_size == [data.image_size] == [release.score_size]
    assert data.image_size / transforms.resize_size[0] == pytest.approx(data.test_crop_fraction)
    assert transforms.interpolation.value == "bilinear"
    assert data.resize == "antialias"
    assert release.top1 == own.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert release.top5 == own.meta["_metrics"]["ImageNet-1K"]["acc@5"]
    if "inception" in name or "google" in name:  # their networks scale for themselves
        assert data.scaling == "inception"
    else:
        mean, deviation = SCALINGS[data.scaling]
        assert transforms.mean == pytest.approx(mean, abs=1e-4)
        assert transforms.std == pytest.approx(deviation, abs=1e-4)


@pytest.mark.parity
def test_every_release_of_torchvision_has_a_row():
    models = import_torchvision().models
    names = {spec.model for spec in SOURCES["torchvision"].values()}
    theirs = {
        f"torchvision/{name}.{one.name.lower()}"
        for name in models.list_models(module=models)
        if name in names
        for one in models.get_model_weights(name)
    }
    assert theirs == {release.id for release in RELEASES if release.source == "torchvision"}


@pytest.mark.parity
def test_keras_checks_its_files_by_the_same_digests():
    """The digests of files with a classifier stand in Keras's sources, as text."""
    from pathlib import Path

    keras = pytest.importorskip("keras")
    folder = Path(keras.__file__).parent / "src" / "applications"
    text = "".join(file.read_text() for file in sorted(folder.glob("*.py")))
    rows = [release for release in RELEASES if release.source == "keras"]
    assert len(rows) == 8
    assert all(release.md5 in text for release in rows)
