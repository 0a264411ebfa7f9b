"""Presets: their settings never change, and floats become bytes as other programs make them."""

import jax
import numpy as np
import pytest

from inception_jax.config import ConfigError
from inception_jax.generative.inception_score import Splits
from inception_jax.generative.kernel_distance import Subsets
from inception_jax.generative.presets import OWN_NETWORK, PRESETS, get_preset, get_range, quantise

FROZEN = {
    "pytorch-fid/1": ("half_pixel", "symmetric", "nearest", 1, "all", Splits(), (3, 0)),
    "torch-fidelity/1": (
        "tf1", "graph", "nearest", 1, Subsets(100, 1000, 2020, True, False),
        Splits(10, 0, 2020, 0), (3, 0),
    ),
    "torchmetrics/1": (
        "antialias", "graph", "truncate_255", 1, Subsets(100, 1000, 2020, False, False),
        Splits(10, 0, None, 1, True), (3, 0),
    ),
    "clean-fid/1": (
        "bicubic", "graph", "nearest", 1, Subsets(100, 1000, 0, True, True), Splits(), (3, 0),
    ),
    "adm/1": ("tf1", "graph", "adm", 1, "all", Splits(1, 5000, None, 0), (3, 10_000)),
    "stylegan/1": (
        "tf1", "graph", "stylegan", 0, Subsets(100, 1000, 0, True, True),
        Splits(10, 0, None, 0), (3, 0),
    ),
    "edm/1": ("tf1", "graph", "stylegan", 1, "all", Splits(1, 0, None, 0), (3, 0)),
    "own/1": ("antialias", "graph", "nearest", 1, "all", Splits(1, 0, None, 0), (3, 0)),
}  # fmt: skip
"""Id of a preset -> its settings, which are never changed: others are a new version."""
SETTINGS = ("resize", "scaling", "rounding", "ddof", "kid", "splits", "neighbourhood")


def test_settings_of_a_version_never_change():
    found = {
        preset.id: tuple(getattr(preset, name) for name in SETTINGS)
        for preset in (*PRESETS.values(), OWN_NETWORK)
    }
    assert found == FROZEN


def test_a_preset_is_found_by_name_with_or_without_its_version():
    assert get_preset("adm") is get_preset("adm/1") is PRESETS["adm"]
    assert get_preset("own") is OWN_NETWORK
    for name in ("adm/2", "fid", ""):
        with pytest.raises(ConfigError, match=r"there is no preset.*pytorch-fid/1"):
            get_preset(name)


def quantise_all(values, value_range, rounding):
    images = np.asarray(values, np.float32)[None, None, :, None]
    compiled = jax.jit(lambda x: quantise(x, get_range(value_range), rounding))
    return np.asarray(compiled(images))[0, 0, :, 0].tolist()


GRID = np.linspace(-1, 1, 4001, dtype=np.float32)


@pytest.mark.parametrize(
    ("rounding", "value_range", "reference"),
    [
        # EDM, generate.py: (images * 127.5 + 128).clip(0, 255).to(torch.uint8)
        ("stylegan", "-1..1", lambda x: (x * np.float32(127.5) + np.float32(128)).clip(0, 255)),
        # guided-diffusion, image_sample.py: ((sample + 1) * 127.5).clamp(0, 255).to(torch.uint8)
        ("adm", "-1..1", lambda x: ((x + np.float32(1)) * np.float32(127.5)).clip(0, 255)),
        # torchmetrics, fid.py: (imgs * 255).byte()
        ("truncate_255", "0..1", lambda x: np.abs(x) * np.float32(255)),
        # torchvision, save_image: mul(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
        (
            "nearest",
            "0..1",
            lambda x: (np.abs(x) * np.float32(255) + np.float32(0.5)).clip(0, 255),
        ),
    ],
)
def test_floats_become_the_bytes_of_the_program(rounding, value_range, reference):
    values = GRID if value_range == "-1..1" else np.abs(GRID)
    expected = reference(GRID).astype(np.uint8).tolist()
    assert quantise_all(values, value_range, rounding) == expected


def test_whole_numbers_survive_every_rule_from_their_own_range():
    levels = np.arange(256)
    assert quantise_all(levels / np.float32(255), "0..1", "nearest") == levels.tolist()
    assert quantise_all(levels, "0..255", "nearest") == levels.tolist()
    assert quantise_all((levels - 128) / 127.5, "-1..1", "stylegan") == levels.tolist()


def test_the_rules_differ_by_half_a_level():
    """imeanflow 5: two evaluations of the same samples."""
    values = np.random.default_rng(0).uniform(-0.9, 0.9, 10_000)
    stylegan = np.array(quantise_all(values, "-1..1", "stylegan"))
    adm = np.array(quantise_all(values, "-1..1", "adm"))
    assert 0.45 < (stylegan - adm).mean() < 0.55


def test_ranges_without_a_name_are_refused():
    with pytest.raises(ConfigError, match=r"name that of the generator, 0\.\.1, -1\.\.1, 0\.\.255"):
        get_range("[-1, 1]")


def test_the_two_scalings_of_the_network_differ():
    graph, symmetric = PRESETS["adm"], PRESETS["pytorch-fid"]
    pixels = np.array([0, 128, 255])
    np.testing.assert_array_equal(graph.scale(pixels), [-1, 0, 127 / 128])
    np.testing.assert_allclose(symmetric.scale(pixels), [-1, 256 / 255 - 1, 1])
