"""The input of a converted network, from flags, timm's `config.json`, the table, or assumptions."""

import json

import pytest

from inception_jax.config import ConfigError, Data
from inception_jax.data.source import DataError
from inception_jax.weights.convert.preprocessing import (
    find_scaling,
    format_preprocessing,
    read_timm_config,
    resolve_preprocessing,
)
from inception_jax.weights.convert.sources import SOURCES
from inception_jax.weights.releases import RELEASES, find_release

TIMM = {
    "architecture": "resnet50",
    "num_classes": 3,
    "label_names": ["a", "b", "c"],
    "pretrained_cfg": {
        "tag": "mine",
        "input_size": [3, 160, 160],
        "interpolation": "bilinear",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "num_classes": 3,
    },
}
IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]


def written(folder, **fields):
    config = {**TIMM, "pretrained_cfg": {**TIMM["pretrained_cfg"], **fields}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.safetensors"


def test_timms_config_beside_a_file_says_what_is_fed_and_what_the_classes_are(tmp_path):
    found = read_timm_config(written(tmp_path))
    assert found.data == {
        "image_size": 160,
        "resize": "antialias",
        "scaling": "inception",
        "test_crop": "square",
        "test_crop_fraction": 0.95,
    }
    assert found.class_names == ("a", "b", "c")
    assert (
        read_timm_config(
            written(tmp_path, mean=IMAGENET[0], std=IMAGENET[1], interpolation="bicubic")
        ).data["scaling"]
        == "imagenet"
    )
    whole = read_timm_config(written(tmp_path, crop_mode="squash", crop_pct=1.0)).data
    assert (whole["test_crop"], whole["image_size"]) == ("none", 160)
    (tmp_path / "config.json").write_text(json.dumps(TIMM["pretrained_cfg"]))  # of before timm 0.9
    assert read_timm_config(tmp_path / "model.safetensors").data["image_size"] == 160


@pytest.mark.parametrize("text", ["{}", '{"architectures": ["ResNetForImageClassification"]}'])
def test_a_config_of_another_kind_says_nothing(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert read_timm_config(tmp_path / "model.safetensors") is None
    assert read_timm_config(tmp_path / "none" / "model.safetensors") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": [0.1, 0.2, 0.3]}, "are those of no scaling here"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos' has no equivalent here"),
        ({"input_size": [3, 160, 224]}, "have no equivalent here"),
        ({"crop_mode": "border"}, "have no equivalent here"),
        ({"input_size": "wide"}, "config.json"),
        ({"mean": None}, "config.json cannot be read"),
        ({"crop_pct": {}}, "config.json"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused_with_its_name(tmp_path, fields, message):
    with pytest.raises(DataError, match=message):
        read_timm_config(written(tmp_path, **fields))


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"pretrained_cfg": 3}', "\xff"])
def test_a_damaged_config_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        read_timm_config(tmp_path / "model.safetensors")


def test_the_line_goes_before_the_config_and_that_before_the_release(tmp_path):
    assumed, release = (
        SOURCES["timm"]["resnet50"].data,
        find_release("timm", "resnet50", "resnet50.a3_in1k.safetensors"),
    )
    config = read_timm_config(written(tmp_path))
    given = resolve_preprocessing(
        assumed, "timm", release, config, {"scaling": "vgg", "image_size": 200}
    )
    assert (given.data.image_size, given.data.scaling, given.data.test_crop_fraction) == (
        200,
        "vgg",
        0.95,
    )
    assert given.sources == ("scaling, image-size as given", "config.json beside the file")
    by_config = resolve_preprocessing(assumed, "timm", release, config, {})
    assert (by_config.data.image_size, by_config.data.scaling) == (160, "inception")
    by_release = resolve_preprocessing(assumed, "timm", release, None, {})
    assert (by_release.data.image_size, by_release.data.scaling) == (160, "imagenet")
    assert by_release.sources == ("the release timm/resnet50.a3_in1k, known by its name",)
    unknown = resolve_preprocessing(assumed, "timm", None, None, {})
    assert unknown.data == assumed
    assert unknown.sources == ("release not known: assumed what timm feeds such networks",)


@pytest.mark.parametrize(
    "given", [{"image_size": 0}, {"test_crop_fraction": 0.0}, {"test_crop_fraction": 1.5}]
)
def test_sizes_and_fractions_out_of_range_are_refused(given):
    with pytest.raises(ConfigError, match="wanted are a size of 1 or more"):
        resolve_preprocessing(Data(), "timm", None, None, given)


def test_what_is_fed_is_said_in_words_and_numbers():
    assert find_scaling([0.5] * 3, [0.5] * 3) == "inception"
    said = format_preprocessing(
        Data(
            image_size=160,
            test_crop="square",
            test_crop_fraction=0.95,
            resize="antialias",
            scaling="inception",
        )
    )
    assert said.startswith(
        "160 x 160 pixels, of the middle square of 95.0% of the shorter side, by antialias; "
        "scaling "
        "inception: less"
    )


@pytest.mark.parametrize(
    ("source", "model", "file", "sha256", "wanted"),
    [
        ("timm", "resnet50", "resnet50.a1_in1k.safetensors", "", "timm/resnet50.a1_in1k"),
        (
            "timm",
            "resnet50",
            "hub/models--timm--resnet50.a2_in1k/snapshots/f00/model.safetensors",
            "",
            "timm/resnet50.a2_in1k",
        ),
        ("timm", "resnet50", "model.safetensors", "", None),
        ("timm", "resnet50", "anything.pth", "14fe96d1" + "0" * 56, "timm/resnet50.a1_in1k"),
        ("timm", "preact_resnet50", "resnetv2_50.a1h_in1k.bin", "", "timm/resnetv2_50.a1h_in1k"),
        ("tf_slim", "inception_v3", "inception_v3.ckpt", "", "tf_slim/inception_v3_2016_08_28"),
        (
            "tf_slim",
            "inception_v3",
            "inception_v3.ckpt-450000",
            "",
            "tf_slim/inception_v3_2016_08_28",
        ),
        ("tf_slim", "inception_v3", "inception_v3_flowers.ckpt", "", None),
        (
            "keras",
            "resnet50",
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "",
            "keras/resnet50.imagenet",
        ),
        ("keras", "resnet50", "resnet50_mine.h5", "", None),
        ("torchvision", "resnet50", "resnet50-11ad3fa6.pth", "f" * 64, None),
        (
            "torchvision",
            "resnet18",
            "x.pth",
            "f37072fd" + "0" * 56,
            "torchvision/resnet18.imagenet1k_v1",
        ),
        ("fid", "inception_v3", "x.pth", "6726825d" + "0" * 56, "fid/2015-12-05"),
    ],
)
def test_a_release_is_known_by_its_hash_or_its_whole_name_and_nothing_that_resembles_it(
    source, model, file, sha256, wanted
):
    found = find_release(source, model, file, sha256)
    assert (found.release.id if found else None) == wanted


def test_the_digest_of_the_arrays_goes_before_all_else(monkeypatch):
    from dataclasses import replace

    from inception_jax.weights import releases

    rows = tuple(
        replace(row, arrays="abc") if row.id == "timm/resnet50.a1_in1k" else row for row in RELEASES
    )
    monkeypatch.setattr(releases, "RELEASES", rows)
    assert find_release("timm", "resnet50", "resnet50.a2_in1k.safetensors", "", "abc") == (
        rows[[r.id for r in rows].index("timm/resnet50.a1_in1k")],
        "its arrays",
    )


def test_the_table_of_releases_is_of_known_networks_and_fields():
    assert len({row.id for row in RELEASES}) == len(RELEASES)
    for row in RELEASES:
        data = row.get_input(SOURCES[row.source][row.model].data)
        assert 0 < data.test_crop_fraction <= 1
        assert row.licence != "unknown" or row.id == "timm/resnet50.bamboo"
        assert row.top1 is None or 50 < row.top1 < row.top5 < 100


@pytest.mark.parity
def test_timms_configurations_of_all_releases_are_what_is_recorded():
    """timm 1.0.31: input size, crop, filter, mean and deviation of each release of the networks
    that `convert` takes.
    """
    pytest.importorskip("torch")
    from inception_jax.weights.reference.reference_models import import_torchvision

    import_torchvision()  # without which timm does not import beside every build of PyTorch
    import timm

    own = {model.replace("preact_resnet", "resnetv2_"): model for model in SOURCES["timm"]}
    compared = 0
    for name in timm.list_pretrained():
        model = own.get(name.partition(".")[0])
        if model is None:
            continue
        config = timm.models.get_pretrained_cfg(name)
        release = find_release("timm", model, f"{name}.safetensors")
        assert release is not None, name
        data = release.release.get_input(SOURCES["timm"][model].data)
        filters = {"bicubic": "bicubic_antialias", "bilinear": "antialias"}
        wanted = (
            config.input_size[-1],
            config.crop_pct,
            filters[config.interpolation],
            find_scaling(config.mean, config.std),
        )
        assert (data.image_size, data.test_crop_fraction, data.resize, data.scaling) == wanted, name
        assert data.test_crop == "square", name
        assert config.crop_mode == "center", name
        compared += 1
    assert compared == 63
